# What `cmake --install` puts where: the library, its public headers, the CMake package, the
# pkg-config file, the programs that were built. tests/consumer builds against the result.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

# <dist/dist.h> and every header it pulls in; they include each other as "libdist/...", which resolves
# below include/dist. tests/consumer compiles each of them alone.
set(DIST_PUBLIC_HEADERS
  libdist/check.h libdist/clip.h libdist/dist.h libdist/group.h libdist/log.h libdist/options.h libdist/plan.h libdist/progress.h libdist/status.h
  libdist/schedule.h libdist/strategy.h libdist/trace.h libdist/types.h libdist/update.h libdist/update_course.h libdist/update_norms.h
  libdist/update_rule.h libdist/update_scalars.h libdist/work.h
  libdist/world.h
  libdist/bucket/arena.h libdist/bucket/arrival_order.h libdist/checkpoint/checkpoints.h libdist/checkpoint/snapshot.h
  libdist/memory/device.h libdist/memory/mapping.h libdist/transport/transport.h)

install(FILES ${DIST_GENERATED_INCLUDE}/dist/dist.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/dist)
foreach(header IN LISTS DIST_PUBLIC_HEADERS)
  get_filename_component(folder ${header} DIRECTORY)
  install(FILES ${header} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/dist/${folder})
endforeach()

install(TARGETS dist EXPORT distTargets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})

# The component libtorch: its own targets file, so that dist::dist needs no LibTorch.
if(TARGET dist_libtorch)
  install(FILES ${DIST_GENERATED_INCLUDE}/dist/libtorch.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/dist)
  install(FILES libdist/libtorch/libtorch.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/dist/libdist/libtorch)
  install(TARGETS dist_libtorch EXPORT distLibtorchTargets
          LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
          ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(EXPORT distLibtorchTargets NAMESPACE dist:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/dist)
endif()

foreach(program IN ITEMS distrun train_cnn scaling)
  if(TARGET ${program})
    set_target_properties(${program} PROPERTIES
      INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
    install(TARGETS ${program} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  endif()
endforeach()

# The CMake package.
set(DIST_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/dist)
install(EXPORT distTargets NAMESPACE dist:: DESTINATION ${DIST_CMAKE_DIR})
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/distConfig.cmake.in
  ${PROJECT_BINARY_DIR}/package/distConfig.cmake INSTALL_DESTINATION ${DIST_CMAKE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/package/distConfigVersion.cmake
  VERSION ${PROJECT_VERSION} COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/package/distConfig.cmake
              ${PROJECT_BINARY_DIR}/package/distConfigVersion.cmake DESTINATION ${DIST_CMAKE_DIR})

# The pkg-config file. A static library needs what it was built from at every link; a shared one
# brings it along.
set(DIST_PC_REQUIRES "")
set(DIST_PC_LIBRARIES "-L\${libdir} -ldist -pthread")
if(NOT BUILD_SHARED_LIBS)
  set(DIST_PC_REQUIRES "fmt libcrypto")
  if(DIST_HAVE_MPI)
    list(JOIN MPI_CXX_LIBRARIES " " mpi_libraries)
    string(APPEND DIST_PC_LIBRARIES " ${mpi_libraries}")
  endif()
  if(DIST_HAVE_CUDA)
    string(APPEND DIST_PC_LIBRARIES " -L${CUDAToolkit_LIBRARY_DIR} -lcudart_static -ldl -lrt")
  endif()
  if(DIST_HAVE_NCCL)
    string(APPEND DIST_PC_LIBRARIES " ${NCCL_LIBRARY}")
  endif()
endif()
file(RELATIVE_PATH DIST_PC_TO_PREFIX
     ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" DIST_PC_TO_PREFIX "${DIST_PC_TO_PREFIX}")
configure_file(${PROJECT_SOURCE_DIR}/cmake/dist.pc.in ${PROJECT_BINARY_DIR}/package/dist.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/package/dist.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
