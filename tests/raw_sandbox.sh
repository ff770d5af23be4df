#!/bin/sh
# Runs as pid 1 of fresh mount, pid, uts and ipc namespaces (raw_sandbox.py): builds a
# sandbox's root and becomes its init.   usage: raw_sandbox.sh DIR BASE LAYERS NAME MODE CONFINING-COMMAND…
#   DIR   the sprite's own folder (upper layers, home, tmp); empty mount point DIR/root
#   BASE  the shared base layer, or - while that layer itself is being built
#   LAYERS  directories with usr, etc, var or opt that lie above the base, joined by : (highest first), or -
#   MODE  host: the base lies over the host's own trees; mapped, single: it is all there is
# Prints "ready" on stdout once the root is complete and the init has become itself.
set -eu
dir=$1 base=$2 layers=$3 name=$4 mode=$5
shift 5
host='' options='' terminals=gid=5,mode=0620
case $mode in
  host) ;;
  mapped) host=$base options=,userxattr ;;
  single) host=$base options=,userxattr terminals=mode=0620 ;;  # group 5 is no one's
esac
cd "$dir"
hostname "$name"

mount -t tmpfs -o mode=0755,size=16m ship root
for link in bin sbin lib lib32 lib64 libx32; do
  [ ! -L "$host/$link" ] || cp -P "$host/$link" "root/$link"
done
# The upper layer's own directory becomes the root of each view: it must look like the host's.
for tree in usr etc var opt; do
  mkdir -p "root/$tree" "upper/$tree" "work/$tree"
  lower=$host/$tree
  [ "$mode" != host ] || [ "$base" = - ] || [ ! -d "$base/$tree" ] || lower=$base/$tree:/$tree
  above=''
  IFS=:
  for layer in $layers; do
    [ ! -d "$layer/$tree" ] || above=$above$layer/$tree:
  done
  unset IFS
  lower=$above$lower
  mount -t overlay -o "lowerdir=$lower,upperdir=upper/$tree,workdir=work/$tree$options" ship "root/$tree"
done

cd root
mkdir -p dev proc sys run root home tmp mnt srv media .sprite .old
mount -t tmpfs -o mode=0755,size=64m ship run
mkdir -p run/lock run/sshd
mount --bind ../home home
for own in root srv mnt media; do
  mount --bind "../own/$own" "$own"
done
chmod 0700 root
mount --bind ../tmp tmp
# The host's holds what its users put there.
mkdir -p var/tmp
mount --bind ../own/var-tmp var/tmp
mount --bind ../dot-sprite .sprite

# Never the host's /dev: it hands over disks and /dev/kvm.
mount -t tmpfs -o mode=0755,size=1m,nosuid,noexec ship dev
mkdir dev/pts dev/shm
for node in null zero full random urandom tty; do
  : > "dev/$node"
  mount --bind "/dev/$node" "dev/$node"
done
mount -t devpts -o newinstance,ptmxmode=0666,$terminals ship dev/pts
mount -t tmpfs -o mode=1777,size=256m,nosuid,nodev ship dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr

mount -t proc -o nosuid,nodev,noexec ship proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro,nosuid,nodev,noexec proc/sys
for shared in irq bus fs acpi pressure mtrr scsi; do
  if [ -e "proc/$shared" ]; then
    mount --bind "proc/$shared" "proc/$shared"
    mount -o remount,bind,ro,nosuid,nodev,noexec "proc/$shared"
  fi
done
for secret in sysrq-trigger kcore keys kmsg timer_list sched_debug; do
  [ ! -e "proc/$secret" ] || mount --bind dev/null "proc/$secret"
done

# The host's may point into its /run.
if [ -e /etc/resolv.conf ]; then
  rm -f etc/resolv.conf
  cp -L /etc/resolv.conf etc/resolv.conf
fi
if [ "$base" != - ]; then
  echo "$name" > etc/hostname
  # sudo complains about a host that it cannot resolve.
  printf '127.0.0.1 localhost %s\n::1 localhost\n' "$name" > etc/hosts
fi

pivot_root . .old
cd /
umount -l /.old
rmdir /.old
# A shell that waits reaps every orphan and costs less than a megabyte. It says that all is ready:
# whoever entered before would find namespaces and rights that it is about to leave.
exec "$@" /bin/sh -c 'echo ready; exec >/dev/null 2>&1; trap : TERM INT HUP; while :; do sleep 2147483647 & wait $!; done'
