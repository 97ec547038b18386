# dist_sanitizers: compile and link flags of DIST_SANITIZE; an empty target without it.
include_guard()
add_library(dist_sanitizers INTERFACE)
if(DIST_SANITIZE)
  target_compile_options(dist_sanitizers INTERFACE
    -fsanitize=${DIST_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(dist_sanitizers INTERFACE -fsanitize=${DIST_SANITIZE})
endif()
