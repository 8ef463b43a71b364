# Runs in the new root of the virtual machines: what starts at a boot, and the initial RAM
# disk, whose last script copies /seed over the root file system, once in a disk's life.
systemctl enable systemd-networkd.service ssh.service
systemctl disable zramswap.service chrony-wait.service 2>/dev/null || :
touch /etc/cloud/cloud-init.disabled
echo '/dev/vda / ext4 defaults 0 0' >/etc/fstab
rm -f /etc/network/interfaces

sed -i 's/^MODULES=.*/MODULES=list/; s/^#* *COMPRESS=.*/COMPRESS=gzip/' /etc/initramfs-tools/initramfs.conf
rm -f /etc/initramfs-tools/conf.d/driver-policy
printf '%s\n' virtio_pci virtio_blk ext4 >/etc/initramfs-tools/modules

# The C library of initial RAM disks has no cp.
cat >/etc/initramfs-tools/hooks/seed <<'HOOK'
#!/bin/sh
[ "$1" != prereqs ] || exit 0
. /usr/share/initramfs-tools/hook-functions
copy_exec /usr/bin/cp /bin
HOOK
cat >/etc/initramfs-tools/scripts/init-bottom/seed <<'SCRIPT'
#!/bin/sh
[ "$1" != prereqs ] || exit 0
[ -d /seed ] && [ ! -e "$rootmnt/var/lib/seeded" ] || exit 0
/bin/cp -a /seed/. "$rootmnt/" && : >"$rootmnt/var/lib/seeded"
SCRIPT
chmod 755 /etc/initramfs-tools/hooks/seed /etc/initramfs-tools/scripts/init-bottom/seed
rm -f /boot/initrd.img-*
update-initramfs -c -k all
# The kernel of a machine is its own: its log belongs into the journal.
rm -f /etc/systemd/journald.conf.d/10-host.conf
