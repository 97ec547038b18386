set encoding utf8
set border 3 lw 1.2 lc rgb "#444444"
set tics nomirror
set grid ytics lc rgb "#dddddd" lw 1 lt 1
set key left bottom Left reverse noenhanced samplen 2
set multiplot layout 2,2 title "4 workers, batch 4, mean of 8 seeds"
set xlabel "samples, all workers together"
set ylabel "loss, mean of the last steps, before they are learnt"
set logscale y
plot 'rates-0.02.dat' index 0 using 1:3 with lines lw 2 lc rgb '#000000' title "sync", \
  'rates-0.02.dat' index 1 using 1:3 with lines lw 2 lc rgb '#0072B2' title "bounded:4", \
  'rates-0.02.dat' index 2 using 1:3 with lines lw 2 lc rgb '#D55E00' title "async", \
  'rates-0.02.dat' index 3 using 1:3 with lines lw 2 lc rgb '#009E73' title "bounded:4+momentum:0+lr:1"
unset key
set xlabel "s, emulated: 20 ms of computing a step"
set ylabel "loss, mean of the last steps, before they are learnt"
set logscale y
plot 'rates-0.02.dat' index 0 using 2:3 with lines lw 2 lc rgb '#000000' title "sync", \
  'rates-0.02.dat' index 1 using 2:3 with lines lw 2 lc rgb '#0072B2' title "bounded:4", \
  'rates-0.02.dat' index 2 using 2:3 with lines lw 2 lc rgb '#D55E00' title "async", \
  'rates-0.02.dat' index 3 using 2:3 with lines lw 2 lc rgb '#009E73' title "bounded:4+momentum:0+lr:1"
set xlabel "samples, all workers together"
set ylabel "accuracy"
unset logscale y
plot 'rates-0.02.dat' index 0 using 1:4 with lines lw 2 lc rgb '#000000' title "sync", \
  'rates-0.02.dat' index 1 using 1:4 with lines lw 2 lc rgb '#0072B2' title "bounded:4", \
  'rates-0.02.dat' index 2 using 1:4 with lines lw 2 lc rgb '#D55E00' title "async", \
  'rates-0.02.dat' index 3 using 1:4 with lines lw 2 lc rgb '#009E73' title "bounded:4+momentum:0+lr:1"
set xlabel "s, emulated: 20 ms of computing a step"
set ylabel "accuracy"
unset logscale y
plot 'rates-0.02.dat' index 0 using 2:4 with lines lw 2 lc rgb '#000000' title "sync", \
  'rates-0.02.dat' index 1 using 2:4 with lines lw 2 lc rgb '#0072B2' title "bounded:4", \
  'rates-0.02.dat' index 2 using 2:4 with lines lw 2 lc rgb '#D55E00' title "async", \
  'rates-0.02.dat' index 3 using 2:4 with lines lw 2 lc rgb '#009E73' title "bounded:4+momentum:0+lr:1"
unset multiplot
