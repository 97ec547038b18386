# Target `docs`: the API documentation of the public headers, where Doxygen is installed.
find_program(DIST_DOXYGEN doxygen)
if(NOT DIST_DOXYGEN)
  return()
endif()
set(DIST_DOCUMENTED "${PROJECT_SOURCE_DIR}/libdist/libtorch/libtorch.h")
foreach(header IN LISTS DIST_PUBLIC_HEADERS)
  string(APPEND DIST_DOCUMENTED " ${PROJECT_SOURCE_DIR}/${header}")
endforeach()
configure_file(${PROJECT_SOURCE_DIR}/cmake/Doxyfile.in ${PROJECT_BINARY_DIR}/docs/Doxyfile @ONLY)
add_custom_target(docs COMMAND ${DIST_DOXYGEN} ${PROJECT_BINARY_DIR}/docs/Doxyfile VERBATIM
                  COMMENT "API documentation in ${PROJECT_BINARY_DIR}/docs/html")
