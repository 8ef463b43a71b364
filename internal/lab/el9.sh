# Runs in the root of a Debian base and makes it look like Enterprise Linux 9 to what logs
# in there. Arguments: where the .deb files are, where the rpms go. What is installed here
# gets an entry without files in rpm's database, so that rpm -q and dnf know it. What is not
# is converted to an rpm: same files, same needs among one another, EL's name where it
# differs. Starting and enabling services is left to the operator, as on EL.
set -eu
debs=$1 repo=$2
work=/var/tmp/rpms
rm -rf $work
mkdir -p $work/spec $work/files $work/rpms "$repo"

el_name() {
	case $1 in
	conntrack) echo conntrack-tools ;;
	iptables) echo iptables-nft ;;
	iproute2) echo iproute ;;
	procps) echo procps-ng ;;
	iputils-ping) echo iputils ;;
	*) echo "${1%%:*}" ;;
	esac
}
el_version() { v=${1#*:}; printf '%s\n' "${v%-*}" | tr - .; } # without epoch and Debian's revision

head_of() { # NAME VERSION
	printf '%%package -n %s\nVersion: %s\nRelease: 1.el9\nSummary: %s\nAutoReqProv: no\n' "$1" "$2" "$1"
}
body_of() { printf '%%description -n %s\nConverted from the Debian package.\n' "$1"; }

macros() {
	cat <<'END'
%global debug_package %{nil}
%global __os_install_post %{nil}
%global _build_id_links none
%global _binary_payload w1.gzdio
%global _unpackaged_files_terminate_build 0
END
	printf 'Name: %s\nVersion: 9.4\nRelease: 1.el9\nSummary: %s\nLicense: none\nAutoReqProv: no\n' "$1" "$1"
}
build() { # SPEC: the rpms come to $work/rpms
	rpmbuild --quiet -bb --define "_topdir $work/top" --define "_rpmdir $work/rpms" --define "_rpmfilename %%{NAME}-%%{VERSION}.rpm" "$1"
}

mkdir -p /etc/rpm
echo '%_dbpath /var/lib/rpm' >/etc/rpm/macros # Debian's is in the user's home
printf 'rpm alias -%s -%s --force-debian\n' e e i i U U >/etc/popt # Debian's rpm refuses without

# What is installed. EL 9 has curl-minimal, which provides curl and does not go with it.
{
	macros rocky-release
	printf 'Provides: system-release(releasever) = 9, system-release = 9, redhat-release = 9\n%%description\nThe release.\n%%files\n'
	dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\n' | while read -r deb version status; do
		case $status-$deb in installed-apt* | installed-dpkg* | installed-perl* | installed-debconf* | installed-debian*) continue ;; installed-*) ;; *) continue ;; esac
		name=$(el_name "$deb")
		[ "$deb" != curl ] || name=curl-minimal
		head_of "$name" "$(el_version "$version")"
		[ "$deb" != curl ] || printf 'Provides: curl\nConflicts: curl\n'
		[ "$deb" != bash ] || echo 'Provides: /bin/sh'
		body_of "$name"
		printf '%%files -n %s\n' "$name"
	done
} >$work/spec/installed
build $work/spec/installed
rpm --initdb
rpm -i --justdb --nodeps --noscripts $work/rpms/*.rpm
rm -rf $work/rpms

# What is not installed, and curl, in one spec.
dpkg-query -W -f '${Package} ${db:Status-Status}\n' | sed -n 's/ installed$//p' | grep -vx curl >$work/installed
for deb in "$debs"/*.deb; do
	name=$(dpkg-deb -f "$deb" Package)
	grep -qx "$name" $work/installed || echo "$name $deb"
done >$work/missing
scriptlets() { # NAME TREE
	units=$(find "$2/usr/lib/systemd" -path '*/system/*.service' ! -name '*@*' -printf '%f ' 2>/dev/null) || :
	printf '%%post -n %s\nldconfig || :\n' "$1"
	[ -z "$units" ] || printf 'systemctl daemon-reload || :\n[ "$1" != 1 ] || systemctl preset %s || :\n' "$units"
	printf '%%preun -n %s\n' "$1"
	[ -z "$units" ] || printf '[ "$1" != 0 ] || systemctl disable --now %s || :\n' "$units"
	printf '%%postun -n %s\nldconfig || :\n' "$1"
	[ -z "$units" ] || echo 'systemctl daemon-reload || :'
}
unpack() { # DEB TREE: in merged folders
	dpkg-deb -x "$1" "$2"
	for d in bin sbin lib lib64; do
		[ -d "$2/$d" ] && [ ! -L "$2/$d" ] || continue
		mkdir -p "$2/usr/$d"
		cp -a "$2/$d/." "$2/usr/$d/"
		rm -r "${2:?}/$d"
	done
	rm -rf "$2/etc/init.d" # EL has units alone
	for d in doc man locale lintian bug info; do rm -rf "${2:?}/usr/share/$d"; done
	[ ! -e "$2/usr/sbin/keepalived" ] || cp "$2/etc/keepalived/keepalived.conf.sample" "$2/etc/keepalived/keepalived.conf" # EL's has one
	if [ -e "$2/usr/sbin/xtables-nft-multi" ]; then # Debian's links are made by update-alternatives
		for l in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore ebtables arptables; do
			ln -sf xtables-nft-multi "$2/usr/sbin/$l"
		done
	fi
}
files_of() { # DEB TREE: a folder only where the base has none
	dpkg-deb -I "$1" conffiles 2>/dev/null >$work/conffiles || :
	(cd "$2" && find . -mindepth 1 -type d | cut -c2-) | while read -r d; do [ -e "$d" ] || echo "%dir \"$d\""; done
	(cd "$2" && find . -mindepth 1 ! -type d | cut -c2-) | while read -r f; do
		if [ "$f" = /etc/keepalived/keepalived.conf ] || grep -qxF "$f" $work/conffiles; then echo "%config(noreplace) \"$f\""; else echo "\"$f\""; fi
	done
}
needs_of() { # DEB: the first of each choice that is converted, too
	dpkg-deb -f "$1" Pre-Depends Depends | sed 's/^[A-Z][A-Za-z-]*: //' | tr , '\n' | sed 's/([^)]*)//g; s/ //g' |
		awk -F'|' -v list="$work/missing" 'BEGIN { while ((getline line < list) > 0) { split(line, w, " "); there[w[1]] = 1 } }
			{ for (i = 1; i <= NF; i++) { sub(/:.*/, "", $i); if ($i in there) { print $i; next } } }' | sort -u
}
{
	macros lab-rpms
	printf '%%description\nNothing.\n%%install\ncp -a %s/trees/. %%{buildroot}\n' "$work"
	while read -r deb file; do
		name=$(el_name "$deb")
		tree=$work/tree/$deb
		mkdir -p "$tree"
		unpack "$file" "$tree"
		files_of "$file" "$tree" >"$work/files/$name"
		head_of "$name" "$(el_version "$(dpkg-deb -f "$file" Version)")"
		[ "$deb" != iptables ] || echo 'Provides: iptables'
		needs_of "$file" | while read -r need; do echo "Requires: $(el_name "$need")"; done
		body_of "$name"
		scriptlets "$name" "$tree"
		printf '%%files -n %s -f %s/files/%s\n' "$name" "$work" "$name"
	done <$work/missing
} >$work/spec/missing
mkdir $work/trees
for t in $work/tree/*; do cp -al "$t/." $work/trees/; done
build $work/spec/missing
mv $work/rpms/*.rpm "$repo/"
createrepo_c --quiet "$repo"
rm -rf $work

# From here on it is no Debian.
cat >/usr/lib/os-release <<'END'
NAME="Rocky Linux"
VERSION="9.4 (Blue Onyx)"
ID="rocky"
ID_LIKE="rhel centos fedora"
VERSION_ID="9.4"
PLATFORM_ID="platform:el9"
PRETTY_NAME="Rocky Linux 9.4 (Blue Onyx), imitated by hactl lab"
END
echo 'Rocky Linux release 9.4 (Blue Onyx)' >/etc/redhat-release
mkdir -p /etc/yum.repos.d /usr/lib/systemd/system-preset
printf '[lab]\nname=lab\nbaseurl=file:///srv/rpms\ngpgcheck=0\n' >/etc/yum.repos.d/lab.repo
echo 'disable *' >/usr/lib/systemd/system-preset/99-default-disable.preset
sed -i '/secure_path/d' /etc/sudoers
echo 'Defaults secure_path="/sbin:/bin:/usr/sbin:/usr/bin"' >/etc/sudoers.d/el9
chmod 0440 /etc/sudoers.d/el9
ln -sf bash /usr/bin/sh
systemctl enable firewalld.service
rm -rf /etc/init.d /usr/lib/systemd/systemd-sysv-install # which is perl on Debian
rm -rf /etc/debian_version /etc/dpkg /etc/apt /etc/perl /var/lib/dpkg /var/lib/apt /var/cache/apt /usr/share/perl* /usr/share/perl5 /usr/lib/*/perl*
rm -f /etc/systemd/system/apt-* /etc/systemd/system/dpkg-* /usr/bin/apt* /usr/bin/dpkg* /usr/sbin/dpkg* /usr/bin/perl* /usr/bin/deb* /usr/bin/createrepo_c /usr/bin/rpmbuild
