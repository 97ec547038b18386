set encoding utf8
set datafile missing "NaN"
set border 3 lw 1.2 lc rgb "#444444"
set tics nomirror out scale 0.5 textcolor rgb "#222222"
set grid ytics lc rgb "#dddddd" lw 1 lt 1
set style fill solid 0.9 noborder
set key top left Left reverse samplen 1.6 spacing 1.15 width 1
set errorbars small
set label 1 "measured on this machine: backend onednn, transport shm, batch 2 a worker" at screen 0.5,0.915 center font ',11' tc rgb '#444444'
set label 2 "2 x AMD EPYC, 23.5 GiB, Linux 6.18.44-fc-v669, libdist 0.1.0 (6691f96d153c)" at screen 0.5,0.018 center font ',9' tc rgb '#777777'
set multiplot layout 1,2 title "Synchronous parameter server (measured)" font ',16' offset 0,0 margins 0.065,0.985,0.15,0.86 spacing 0.075,0.1
set xlabel "workers"
set ylabel "images/s"
set xtics ("1" 0, "2" 1)
set ytics auto
set xrange [-0.6:1.6]
set yrange [0:16.9026]
set boxwidth 0.752 absolute
plot 'sync-ps.dat' using ($1+0.0000):3 with boxes lc rgb '#0072B2' title "ResNet-50", \
  'sync-ps.dat' using ($1+0.0000):($3-$4):(0):(2*$4) with vectors nohead lw 1.6 lc rgb '#222222' notitle, \
  'sync-ps.dat' using ($1+0.0000):($3+$4):(sprintf($3>=100 ? '%.0f' : '%.1f', $3)) with labels offset 0,0.6 font ',10' tc rgb '#222222' notitle
unset label 1
unset label 2
set grid xtics ytics
set xlabel "workers"
set ylabel "speed-up against one independent worker"
set xtics 1
set ytics 0.5
set xrange [0:2.1]
set yrange [0:2.1]
plot x with lines dt (8,6) lw 1.8 lc rgb '#555555' title "ideal: S(N) = N", \
  'sync-ps.dat' using 2:5:6 with yerrorlines pt 7 ps 1.1 lw 2 lc rgb '#0072B2' title "ResNet-50", \
  'sync-ps.dat' using 2:7 with lines dt (2,4) lw 2 lc rgb '#0072B2' title "ResNet-50 independent (no exchange)"
unset multiplot
