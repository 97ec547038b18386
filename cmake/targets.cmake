# How this project's libraries, programs and tests are made.
include_guard()
include(GNUInstallDirs)

# The in-tree form of <dist/dist.h>, the same file that is installed.
set(DIST_GENERATED_INCLUDE ${PROJECT_BINARY_DIR}/include)
file(WRITE ${DIST_GENERATED_INCLUDE}/dist/dist.h.new
"// The one header of libdist that a program includes.
#pragma once
#if __cplusplus < 202002L
#error \"libdist needs C++20: compile with -std=c++20 or later\"
#endif
#include \"libdist/dist.h\"
")
file(COPY_FILE ${DIST_GENERATED_INCLUDE}/dist/dist.h.new ${DIST_GENERATED_INCLUDE}/dist/dist.h
     ONLY_IF_DIFFERENT)

file(WRITE ${DIST_GENERATED_INCLUDE}/dist/libtorch.h.new
"// Data-parallel training of LibTorch modules; link dist::libtorch.
#pragma once
#include \"dist/dist.h\"
#include \"libdist/libtorch/libtorch.h\"
")
file(COPY_FILE ${DIST_GENERATED_INCLUDE}/dist/libtorch.h.new
     ${DIST_GENERATED_INCLUDE}/dist/libtorch.h ONLY_IF_DIFFERENT)

# Flags that every target here shares.
function(dist_configure target)
  target_compile_features(${target} PUBLIC cxx_std_20)
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON)
  target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:dist_warnings>
                                          $<BUILD_INTERFACE:dist_sanitizers>)
endfunction()

function(dist_configure_library target)
  dist_configure(${target})
  set_target_properties(${target} PROPERTIES VERSION ${PROJECT_VERSION}
                        SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
  if(BUILD_SHARED_LIBS)
    target_link_options(${target} PRIVATE -Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/exports.map)
    set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/exports.map)
  endif()
  target_include_directories(${target} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>
    $<BUILD_INTERFACE:${DIST_GENERATED_INCLUDE}>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/dist>)
  target_link_libraries(${target} PUBLIC Threads::Threads
                                  PRIVATE fmt::fmt $<BUILD_INTERFACE:Boost::headers> OpenSSL::Crypto)
endfunction()

# dist_add_program(NAME SOURCES .. LIBRARIES ..): a program in <build>/bin.
function(dist_add_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LIBRARIES" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  dist_configure(${name})
  target_link_libraries(${name} PRIVATE dist::dist fmt::fmt ${ARG_LIBRARIES})
  if(DIST_SANITIZE)  # command lines and reports take long to compile and no time to run
    target_compile_options(${name} PRIVATE -O0)
  endif()
endfunction()

# dist_add_test(NAME SOURCES .. LABELS unit|net|mpi|train|gpu|slow .. [LIBRARIES ..] [TIMEOUT s]
#               [LAUNCH distrun|mpirun RANKS 1 2 ..] [ARGUMENTS ..])
# One executable from the sources, one CTest entry; with LAUNCH one entry a rank count, named NAME_nN.
# A test that cannot run here exits with 77 and a reason: CTest counts it as skipped.
function(dist_add_test name)
  cmake_parse_arguments(ARG "" "LAUNCH;TIMEOUT" "SOURCES;LIBRARIES;LABELS;RANKS;ARGUMENTS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  if(DIST_SANITIZE)
    math(EXPR ARG_TIMEOUT "3 * ${ARG_TIMEOUT}")  # they are as much slower, also on a loaded machine
  endif()
  add_executable(${name} ${ARG_SOURCES})
  dist_configure(${name})
  target_link_libraries(${name} PRIVATE dist_test_support ${ARG_LIBRARIES})
  # Catch2's macros at -O3 are half of the build's time; what is tested keeps its own flags.
  target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O1>)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests/bin)
  if(DIST_SANITIZE)  # under which -O1 takes 2.5 times as long for them as -O0
    target_compile_options(${name} PRIVATE -O0)
  endif()
  if(DIST_SANITIZE AND NOT "unit" IN_LIST ARG_LABELS AND NOT "net" IN_LIST ARG_LABELS)
    # Minutes each under a sanitizer, or none of them can run there: see the presets.
    set_target_properties(${name} PROPERTIES EXCLUDE_FROM_ALL ON)
  endif()
  if(NOT ARG_LAUNCH)
    add_test(NAME ${name} COMMAND ${name} ${ARG_ARGUMENTS})
    set(entries ${name})
  else()
    foreach(ranks IN LISTS ARG_RANKS)
      set(entry ${name}_n${ranks})
      if(ARG_LAUNCH STREQUAL "mpirun")
        add_test(NAME ${entry} COMMAND ${MPIEXEC_EXECUTABLE} --allow-run-as-root --oversubscribe
                 --bind-to none -n ${ranks} $<TARGET_FILE:${name}> ${ARG_ARGUMENTS})
      else()
        add_test(NAME ${entry} COMMAND distrun -n ${ranks} -- $<TARGET_FILE:${name}> ${ARG_ARGUMENTS})
      endif()
      list(APPEND entries ${entry})
    endforeach()
  endif()
  set_tests_properties(${entries} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT}
                       SKIP_RETURN_CODE 77)
endfunction()
