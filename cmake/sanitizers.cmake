# dist_sanitizers: compile and link flags of DIST_SANITIZE; an empty target without it.
include_guard()
add_library(dist_sanitizers INTERFACE)
if(DIST_SANITIZE)
  target_compile_options(dist_sanitizers INTERFACE
    -fsanitize=${DIST_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(dist_sanitizers INTERFACE -fsanitize=${DIST_SANITIZE})
  # ThreadSanitizer cannot see fences. Asio's guard handlers that several threads run; ours run in one.
  if(DIST_SANITIZE MATCHES "thread")
    target_compile_definitions(dist_sanitizers INTERFACE BOOST_ASIO_DISABLE_FENCED_BLOCK)
  endif()
endif()
