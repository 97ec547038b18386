# dist_warnings: the warnings every target of this project compiles with; never exported.
include_guard()
add_library(dist_warnings INTERFACE)
target_compile_options(dist_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wcast-qual
  $<$<BOOL:${DIST_WERROR}>:-Werror>)
