# dist_warnings: the warnings every target of this project compiles with; never exported.
include_guard()
add_library(dist_warnings INTERFACE)
target_compile_options(dist_warnings INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wcast-qual>
  # -Wpedantic and -Wshadow see what nvcc generates.
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra>
  $<$<AND:$<BOOL:${DIST_WERROR}>,$<COMPILE_LANGUAGE:CXX>>:-Werror>
  $<$<AND:$<BOOL:${DIST_WERROR}>,$<COMPILE_LANGUAGE:CUDA>>:-Werror=all-warnings>)
