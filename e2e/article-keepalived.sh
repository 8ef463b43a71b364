# The procedure's keepalived configuration and check script, for the scripts
# that read this file: written to a folder as keepalived.conf and
# check_apiserver.sh. Arguments: folder, interface, VIP, MASTER or BACKUP.
article_keepalived() {
    prio=100
    [ "$4" != MASTER ] || prio=101
    cat >"$1/keepalived.conf" <<CONF
vrrp_script check_apiserver {
    script "/etc/keepalived/check_apiserver.sh"
    interval 3
    weight -2
    fall 10
    rise 2
}
vrrp_instance VI_1 {
    state $4
    interface $2
    virtual_router_id 51
    priority $prio
    authentication {
        auth_type PASS
        auth_pass 4be37dc3
    }
    virtual_ipaddress {
        $3
    }
    track_script {
        check_apiserver
    }
}
CONF
    cat >"$1/check_apiserver.sh" <<CHECK
#!/bin/sh
curl --silent --max-time 2 --insecure https://localhost:6443/ -o /dev/null || exit 1
if ip addr | grep -q $3; then curl --silent --max-time 2 --insecure https://$3:6443/ -o /dev/null || exit 1; fi
CHECK
    chmod +x "$1/check_apiserver.sh"
}
