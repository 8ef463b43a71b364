package kubeadm

// kubeadm writes a key, then its certificate, and then the kubeconfigs, without
// waiting for the disk. After a power cut any of them can be there and empty, or
// alone, and kubeadm, which keeps what it finds, then fails on every run: "failure
// loading apiserver certificate", "failed to find CurrentContext". So what it made
// is looked at before it runs again, until it has once come to its end; and before
// that is written down, the files are on the disk.

// listPartial defines the function that prints, a line each, the files of kubeadm's own
// that it could not go on with, and why. The authorities and the service account's
// keys are hactl's and not among them. Without openssl, only what is missing or
// empty is found of the pairs. A kubeconfig is one write: its end says whether it
// is all there.
const listPartial = `list_partial() (
cd ` + kubeDir + ` 2>/dev/null || exit 0
pair() { ! command -v openssl >/dev/null || { c=$(openssl x509 -noout -pubkey -in "$1" 2>/dev/null) && k=$(openssl pkey -pubout -in "$2" 2>/dev/null) && [ "$c" = "$k" ]; }; }
whole() { # a kubeconfig, down to its last line
  x='' y='' z='' l=''
  while IFS= read -r l; do case $l in 'current-context: "'*) ;; 'current-context: '?*) x=1 ;; *' client-certificate-data: '?*) y=1 ;; *' client-certificate: '?*) y='file' ;; *' client-key-data: '?* | *' client-key: '?*) z=1 ;; esac; done <"$1"
  [ "$(tr -d '\000' <"$1" | wc -c)" = "$(wc -c <"$1")" ] || l='zeros' # which read leaves out
}
for n in apiserver apiserver-kubelet-client front-proxy-client; do
  c=pki/$n.crt k=pki/$n.key
  if [ ! -e $c ] && [ ! -e $k ]; then :
  elif [ ! -e $c ]; then echo "$n.key (without its certificate)"
  elif [ ! -e $k ]; then echo "$n.crt (without its key)"
  elif [ ! -s $c ]; then echo "$n.crt (empty)"
  elif [ ! -s $k ]; then echo "$n.key (empty)"
  elif ! pair $c $k; then echo "$n.crt (does not match its key)"
  fi
done
for f in admin.conf super-admin.conf kubelet.conf controller-manager.conf scheduler.conf; do
  if [ ! -e $f ]; then :
  elif [ ! -s $f ]; then echo "$f (empty)"
  else
    whole $f
    if [ -z "$x" ]; then echo "$f (no current-context)"
    elif [ -z "$y" ] || [ -z "$z" ] || [ -n "$l" ]; then echo "$f (cut short)"
    elif [ $y = file ] && [ ! -s ` + kubeletPair + ` ]; then echo "$f (its certificate is missing)"
    fi
  fi
done
)
`

// initInterrupted is true of a host on which kubeadm, or a renewal, was cut off.
const initInterrupted = `{ [ ! -e ` + markerFile + ` ] || [ -e ` + renewingFile + ` ]; }`

// removePartial removes what listPartial finds, for kubeadm to make it anew: of a pair both.
const removePartial = listPartial + `if ` + initInterrupted + `; then
  list_partial | while read -r f why; do
    echo "removing $f $why"
    case $f in *.conf) rm -f ` + kubeDir + `/"$f" ;; *) rm -f ` + pkiDir + `/"${f%.*}.crt" ` + pkiDir + `/"${f%.*}.key" ;; esac
  done
fi
`

// fsyncKubeadmFiles has a master's disk hold what kubeadm wrote. Not "sync -f": in a bring-up
// that would wait for gigabytes of images as well. In the kubelet's folder it is
// config.yaml and kubeadm-flags.env.
const fsyncKubeadmFiles = `sync ` + kubeDir + `/*.conf ` + kubeDir + `/manifests/*.yaml ` + pkiDir + `/*.crt ` + pkiDir + `/*.key /var/lib/kubelet/*.[ey]* ` + kubeDir + ` ` + kubeDir + `/manifests ` + pkiDir + "\n"
