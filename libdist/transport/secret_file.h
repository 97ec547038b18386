// SPDX-License-Identifier: Apache-2.0
// The shared secret of a job: read from a file, or made.
#pragma once

#include <string>

#include "libdist/status.h"
#include "libdist/wire/handshake.h"

namespace dist {

/// Reads a secret of 16 to 4096 bytes. The file must be regular, belong to this user (or to root)
/// and give no access to group and others; `path` may be relative to the open directory `directory`
/// (AT_FDCWD: to the working directory). The errors never hold a byte of it.
Result<wire::Secret> read_secret_file(int directory, const std::string& path);

/// Makes the file with 32 random bytes and mode 0600 in an open directory unless it exists already.
/// Callers exclude each other (by the directory's lock).
Status make_secret_file(int directory, const std::string& name);

/// A fresh random nonce.
Result<wire::Nonce> random_nonce();

}  // namespace dist
