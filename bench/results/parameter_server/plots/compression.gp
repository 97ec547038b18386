set encoding utf8
set border 3 lw 1.2 lc rgb "#444444"
set tics nomirror
set grid ytics lc rgb "#dddddd" lw 1 lt 1
set key left bottom Left reverse noenhanced samplen 2
set multiplot layout 2,2 title "4 workers, batch 4, mean of 8 seeds"
set xlabel "samples, all workers together"
set ylabel "loss, mean of the last steps, before they are learnt"
set logscale y
plot 'compression.dat' index 0 using 1:3 with lines lw 2 lc rgb '#000000' title "sync", \
  'compression.dat' index 1 using 1:3 with lines lw 2 lc rgb '#0072B2' title "sync+push:f16", \
  'compression.dat' index 2 using 1:3 with lines lw 2 lc rgb '#D55E00' title "sync+push:bf16", \
  'compression.dat' index 3 using 1:3 with lines lw 2 lc rgb '#009E73' title "sync+push:int8", \
  'compression.dat' index 4 using 1:3 with lines lw 2 lc rgb '#CC79A7' title "sync+push:top-k", \
  'compression.dat' index 5 using 1:3 with lines lw 2 lc rgb '#E69F00' title "sync+push:one-bit", \
  'compression.dat' index 6 using 1:3 with lines lw 2 lc rgb '#56B4E9' title "sync+pull:f16", \
  'compression.dat' index 7 using 1:3 with lines lw 2 lc rgb '#888888' title "sync+pull:bf16", \
  'compression.dat' index 8 using 1:3 with lines lw 2 lc rgb '#000000' dt (6,4) title "sync+push:int8+pull:bf16", \
  'compression.dat' index 9 using 1:3 with lines lw 2 lc rgb '#0072B2' dt (6,4) title "ring", \
  'compression.dat' index 10 using 1:3 with lines lw 2 lc rgb '#D55E00' dt (6,4) title "ring+push:int8"
unset key
set xlabel "s, emulated: 10 ms of computing a step"
set ylabel "loss, mean of the last steps, before they are learnt"
set logscale y
plot 'compression.dat' index 0 using 2:3 with lines lw 2 lc rgb '#000000' title "sync", \
  'compression.dat' index 1 using 2:3 with lines lw 2 lc rgb '#0072B2' title "sync+push:f16", \
  'compression.dat' index 2 using 2:3 with lines lw 2 lc rgb '#D55E00' title "sync+push:bf16", \
  'compression.dat' index 3 using 2:3 with lines lw 2 lc rgb '#009E73' title "sync+push:int8", \
  'compression.dat' index 4 using 2:3 with lines lw 2 lc rgb '#CC79A7' title "sync+push:top-k", \
  'compression.dat' index 5 using 2:3 with lines lw 2 lc rgb '#E69F00' title "sync+push:one-bit", \
  'compression.dat' index 6 using 2:3 with lines lw 2 lc rgb '#56B4E9' title "sync+pull:f16", \
  'compression.dat' index 7 using 2:3 with lines lw 2 lc rgb '#888888' title "sync+pull:bf16", \
  'compression.dat' index 8 using 2:3 with lines lw 2 lc rgb '#000000' dt (6,4) title "sync+push:int8+pull:bf16", \
  'compression.dat' index 9 using 2:3 with lines lw 2 lc rgb '#0072B2' dt (6,4) title "ring", \
  'compression.dat' index 10 using 2:3 with lines lw 2 lc rgb '#D55E00' dt (6,4) title "ring+push:int8"
set xlabel "samples, all workers together"
set ylabel "accuracy"
unset logscale y
plot 'compression.dat' index 0 using 1:4 with lines lw 2 lc rgb '#000000' title "sync", \
  'compression.dat' index 1 using 1:4 with lines lw 2 lc rgb '#0072B2' title "sync+push:f16", \
  'compression.dat' index 2 using 1:4 with lines lw 2 lc rgb '#D55E00' title "sync+push:bf16", \
  'compression.dat' index 3 using 1:4 with lines lw 2 lc rgb '#009E73' title "sync+push:int8", \
  'compression.dat' index 4 using 1:4 with lines lw 2 lc rgb '#CC79A7' title "sync+push:top-k", \
  'compression.dat' index 5 using 1:4 with lines lw 2 lc rgb '#E69F00' title "sync+push:one-bit", \
  'compression.dat' index 6 using 1:4 with lines lw 2 lc rgb '#56B4E9' title "sync+pull:f16", \
  'compression.dat' index 7 using 1:4 with lines lw 2 lc rgb '#888888' title "sync+pull:bf16", \
  'compression.dat' index 8 using 1:4 with lines lw 2 lc rgb '#000000' dt (6,4) title "sync+push:int8+pull:bf16", \
  'compression.dat' index 9 using 1:4 with lines lw 2 lc rgb '#0072B2' dt (6,4) title "ring", \
  'compression.dat' index 10 using 1:4 with lines lw 2 lc rgb '#D55E00' dt (6,4) title "ring+push:int8"
set xlabel "s, emulated: 10 ms of computing a step"
set ylabel "accuracy"
unset logscale y
plot 'compression.dat' index 0 using 2:4 with lines lw 2 lc rgb '#000000' title "sync", \
  'compression.dat' index 1 using 2:4 with lines lw 2 lc rgb '#0072B2' title "sync+push:f16", \
  'compression.dat' index 2 using 2:4 with lines lw 2 lc rgb '#D55E00' title "sync+push:bf16", \
  'compression.dat' index 3 using 2:4 with lines lw 2 lc rgb '#009E73' title "sync+push:int8", \
  'compression.dat' index 4 using 2:4 with lines lw 2 lc rgb '#CC79A7' title "sync+push:top-k", \
  'compression.dat' index 5 using 2:4 with lines lw 2 lc rgb '#E69F00' title "sync+push:one-bit", \
  'compression.dat' index 6 using 2:4 with lines lw 2 lc rgb '#56B4E9' title "sync+pull:f16", \
  'compression.dat' index 7 using 2:4 with lines lw 2 lc rgb '#888888' title "sync+pull:bf16", \
  'compression.dat' index 8 using 2:4 with lines lw 2 lc rgb '#000000' dt (6,4) title "sync+push:int8+pull:bf16", \
  'compression.dat' index 9 using 2:4 with lines lw 2 lc rgb '#0072B2' dt (6,4) title "ring", \
  'compression.dat' index 10 using 2:4 with lines lw 2 lc rgb '#D55E00' dt (6,4) title "ring+push:int8"
unset multiplot
