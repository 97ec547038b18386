# What a user may choose, and what was found. Each optional part is AUTO (use it where found), ON
# (fail where missing) or OFF. dist_print_features() tells the outcome and the reason.
include_guard()

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug, Release, RelWithDebInfo or MinSizeRel" FORCE)
endif()

option(DIST_BUILD_EXAMPLES "Build the example programs, distrun and train_cnn" ${PROJECT_IS_TOP_LEVEL})
option(DIST_BUILD_BENCH "Build the benchmarks and the scaling laboratory" ${PROJECT_IS_TOP_LEVEL})
option(DIST_BUILD_TESTS "Build the tests" ${PROJECT_IS_TOP_LEVEL})
option(DIST_WERROR "Treat warnings as errors" OFF)
set(DIST_SANITIZE "" CACHE STRING "Comma-separated sanitizers: address,undefined or thread")

set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)

find_program(DIST_CCACHE ccache)
if(DIST_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${DIST_CCACHE})
endif()

set_property(GLOBAL PROPERTY DIST_FEATURES "")

# Records one line of the feature table.
function(dist_feature name on why)
  set_property(GLOBAL APPEND PROPERTY DIST_FEATURES "${name}|${on}|${why}")
endfunction()

# dist_part(NAME what-it-is-for): declares DIST_WITH_<NAME> and sets DIST_WANT_<NAME>.
macro(dist_part name purpose)
  set(DIST_WITH_${name} AUTO CACHE STRING "${purpose}: AUTO, ON or OFF")
  set_property(CACHE DIST_WITH_${name} PROPERTY STRINGS AUTO ON OFF)
  string(TOUPPER "${DIST_WITH_${name}}" DIST_CHOICE_${name})
  if(NOT DIST_CHOICE_${name} MATCHES "^(AUTO|ON|OFF)$")
    message(FATAL_ERROR "DIST_WITH_${name} is '${DIST_WITH_${name}}'; valid: AUTO, ON, OFF")
  endif()
endmacro()

# dist_settle(NAME found detail package): turns choice and finding into DIST_HAVE_<NAME>.
macro(dist_settle name found detail package)
  if(DIST_CHOICE_${name} STREQUAL "OFF")
    set(DIST_HAVE_${name} OFF)
    dist_feature(${name} OFF "switched off by DIST_WITH_${name}=OFF")
  elseif(${found})
    set(DIST_HAVE_${name} ON)
    dist_feature(${name} ON "${detail}")
  elseif(DIST_CHOICE_${name} STREQUAL "ON")
    message(FATAL_ERROR "DIST_WITH_${name}=ON, but it was not found. Install ${package}, "
                        "or configure with -DDIST_WITH_${name}=AUTO.")
  else()
    set(DIST_HAVE_${name} OFF)
    dist_feature(${name} OFF "not found (install ${package})")
  endif()
endmacro()

function(dist_print_features)
  get_property(features GLOBAL PROPERTY DIST_FEATURES)
  message(STATUS "libdist ${PROJECT_VERSION}, ${CMAKE_BUILD_TYPE}; parts of this build:")
  foreach(feature IN LISTS features)
    string(REPLACE "|" ";" fields "${feature}")
    list(GET fields 0 name)
    list(GET fields 1 on)
    list(GET fields 2 why)
    string(LENGTH "${name}" length)
    math(EXPR pad "8 - ${length}")
    string(REPEAT " " ${pad} spaces)
    string(SUBSTRING "${on} " 0 3 on)
    message(STATUS "  ${name}${spaces} ${on}  ${why}")
  endforeach()
endfunction()

find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(Boost 1.74 REQUIRED)
find_package(OpenSSL REQUIRED)

dist_part(MPI "Transport over MPI and the native MPI_Iallreduce")
if(NOT DIST_CHOICE_MPI STREQUAL "OFF")
  find_package(MPI COMPONENTS CXX QUIET)
endif()
dist_settle(MPI MPI_CXX_FOUND "MPI ${MPI_CXX_VERSION}, ${MPIEXEC_EXECUTABLE}" "libopenmpi-dev")

dist_part(ONEDNN "CPU layers of the trainers (examples only)")
if(NOT DIST_CHOICE_ONEDNN STREQUAL "OFF")
  find_package(oneDNN QUIET)
endif()
dist_settle(ONEDNN oneDNN_FOUND "oneDNN ${oneDNN_VERSION}" "libdnnl-dev")

dist_part(LIBTORCH "Component libtorch: LibTorch modules trained with the strategies")
if(NOT DIST_CHOICE_LIBTORCH STREQUAL "OFF")
  # dist::libtorch hands LibTorch's targets on, also to the project that this is a part of.
  set(CMAKE_FIND_PACKAGE_TARGETS_GLOBAL ON)
  find_package(Torch QUIET)
  unset(CMAKE_FIND_PACKAGE_TARGETS_GLOBAL)
endif()
dist_settle(LIBTORCH Torch_FOUND "LibTorch ${Torch_VERSION}" "libtorch-dev")

# GPU parts. The kernels need nvcc, the rest of the toolkit alone is no use.
dist_part(CUDA "GPU memory, streams and kernels")
set(DIST_CUDA_ARCHITECTURES "80-real;90" CACHE STRING "GPUs that the kernels are compiled for, as CMAKE_CUDA_ARCHITECTURES")
if(NOT DIST_CHOICE_CUDA STREQUAL "OFF")
  include(cuda)
endif()
dist_settle(CUDA DIST_CUDA_FOUND
            "toolkit ${CUDAToolkit_VERSION}, nvcc ${CMAKE_CUDA_COMPILER_VERSION} for ${DIST_CUDA_ARCHITECTURES_TEXT}"
            "the CUDA Toolkit with nvcc")

dist_part(NCCL "Collectives between GPUs")
if(NOT DIST_CHOICE_NCCL STREQUAL "OFF")
  find_package(NCCL QUIET)
endif()
set(DIST_NCCL_USABLE OFF)
if(NCCL_FOUND AND DIST_HAVE_CUDA)
  set(DIST_NCCL_USABLE ON)
endif()
dist_settle(NCCL DIST_NCCL_USABLE "NCCL ${NCCL_VERSION}" "CUDA and libnccl-dev")

dist_part(CUDNN "GPU layers of the trainers")
if(NOT DIST_CHOICE_CUDNN STREQUAL "OFF" AND DIST_HAVE_CUDA)
  find_package(cuDNN QUIET)
endif()
dist_settle(CUDNN cuDNN_FOUND "cuDNN ${cuDNN_VERSION}" "the cuDNN development package, and the CUDA Toolkit")
