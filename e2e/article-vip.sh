# Gives a master the keepalived configuration of the procedure by hand, in the
# place of hactl's. Runs on the host as root. Arguments: its name, the VIP.
set -eu
name=$1 vip=$2
address=$(sed -n 's/^ *unicast_src_ip *//p' /etc/keepalived/keepalived.conf)
interface=$(ip -o -4 address show to "$address" | awk '{print $2; exit}')
case $name in master-1) state=MASTER prio=101 ;; *) state=BACKUP prio=100 ;; esac
cat >/etc/keepalived/check_apiserver.sh <<CHECK
#!/bin/sh
curl --silent --max-time 2 --insecure https://localhost:6443/ -o /dev/null || exit 1
if ip addr | grep -q $vip; then curl --silent --max-time 2 --insecure https://$vip:6443/ -o /dev/null || exit 1; fi
CHECK
chmod +x /etc/keepalived/check_apiserver.sh
cat >/etc/keepalived/keepalived.conf <<CONF
vrrp_script check_apiserver {
    script "/etc/keepalived/check_apiserver.sh"
    interval 3
    weight -2
    fall 10
    rise 2
}
vrrp_instance VI_1 {
    state $state
    interface $interface
    virtual_router_id 51
    priority $prio
    authentication {
        auth_type PASS
        auth_pass 4be37dc3
    }
    virtual_ipaddress {
        $vip
    }
    track_script {
        check_apiserver
    }
}
CONF
mkdir -p /run/systemd/system/keepalived.service.d
# keepalived -t of the drop-in finds the authentication too long; the package's unit has no such test.
printf '[Service]\nExecStartPre=\n' >/run/systemd/system/keepalived.service.d/zz-article.conf
systemctl daemon-reload
systemctl restart keepalived
