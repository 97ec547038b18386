// SPDX-License-Identifier: Apache-2.0
// Where a number comes from: machine, versions, date. Goes into every record.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace dist::bench {

/// Cores this process may run on (its affinity mask, not the machine's sockets).
int usable_cores();

/// The arguments of main() with spaces between.
std::string command_line(int argc, const char* const* argv);

/// machine, cpu, cores, memory_gib, os, kernel, compiler, library_version, git_commit (null where
/// the sources are not a git checkout), date (UTC), command.
nlohmann::json provenance(const std::string& command);

}  // namespace dist::bench
