set encoding utf8
set datafile missing "NaN"
set border 3 lw 1.2 lc rgb "#444444"
set tics nomirror out scale 0.5 textcolor rgb "#222222"
set grid ytics lc rgb "#dddddd" lw 1 lt 1
set style fill solid 0.9 noborder
set key top left Left reverse samplen 1.6 spacing 1.15 width 1
set errorbars small
set label 1 "EMULATED: computation is replayed at the pace of one P100 (assumed); the exchange is real, over shm inside one machine; batch 32 a worker" at screen 0.5,0.915 center font ',11' tc rgb '#444444'
set label 2 "2 x AMD EPYC, 23.5 GiB, Linux 6.18.44-fc-v669, libdist 0.1.0 (6691f96d153c)" at screen 0.5,0.018 center font ',9' tc rgb '#777777'
set multiplot layout 1,2 title "Synchronous parameter server (emulated)" font ',16' offset 0,0 margins 0.065,0.985,0.15,0.86 spacing 0.075,0.1
set xlabel "workers"
set ylabel "images/s"
set xtics ("1" 0, "2" 1, "4" 2, "8" 3, "16" 4)
set ytics auto
set xrange [-0.6:4.6]
set yrange [0:2150.21]
set boxwidth 0.188 absolute
plot 'sync-ps.dat' using ($1-0.3000):3 with boxes lc rgb '#0072B2' title "VGG16", \
  'sync-ps.dat' using ($1-0.3000):($3-$4):(0):(2*$4) with vectors nohead lw 1.6 lc rgb '#222222' notitle, \
  'sync-ps.dat' using ($1-0.1000):8 with boxes lc rgb '#D55E00' title "VGG19", \
  'sync-ps.dat' using ($1-0.1000):($8-$9):(0):(2*$9) with vectors nohead lw 1.6 lc rgb '#222222' notitle, \
  'sync-ps.dat' using ($1+0.1000):13 with boxes lc rgb '#009E73' title "ResNet-50", \
  'sync-ps.dat' using ($1+0.1000):($13-$14):(0):(2*$14) with vectors nohead lw 1.6 lc rgb '#222222' notitle, \
  'sync-ps.dat' using ($1+0.3000):18 with boxes lc rgb '#CC79A7' title "Inception-v4", \
  'sync-ps.dat' using ($1+0.3000):($18-$19):(0):(2*$19) with vectors nohead lw 1.6 lc rgb '#222222' notitle
unset label 1
unset label 2
set grid xtics ytics
set xlabel "workers"
set ylabel "speed-up against one independent worker"
set xtics 2
set ytics 2
set xrange [0:16.8]
set yrange [0:16.8]
plot x with lines dt (8,6) lw 1.8 lc rgb '#555555' title "ideal: S(N) = N", \
  'sync-ps.dat' using 2:5:6 with yerrorlines pt 7 ps 1.1 lw 2 lc rgb '#0072B2' title "VGG16", \
  'sync-ps.dat' using 2:10:11 with yerrorlines pt 5 ps 1.1 lw 2 lc rgb '#D55E00' title "VGG19", \
  'sync-ps.dat' using 2:15:16 with yerrorlines pt 9 ps 1.1 lw 2 lc rgb '#009E73' title "ResNet-50", \
  'sync-ps.dat' using 2:20:21 with yerrorlines pt 11 ps 1.1 lw 2 lc rgb '#CC79A7' title "Inception-v4"
unset multiplot
