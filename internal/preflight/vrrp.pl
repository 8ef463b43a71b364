# Run by probe.sh: INTERFACE OWN-ADDRESS LEAST MOST "PEER...". It listens on the
# interface for VRRP adverts, and tries IP protocol 112 between this host and its
# peers, on whatever interface they are. It joins the groups of VRRP and leaves
# nothing behind.
#
# The probes are no adverts: version 0, type 0, virtual router id 0 (there is no
# such router) and the ordinary TTL. keepalived looks for the id first and drops
# an unknown one without a word; RFC 9568 has the rest dropped as well. A probe
# names whom its sender has heard, so a host knows when it may stop: after LEAST
# seconds if it hears all peers and they hear it, or else after MOST.
use strict;
use Socket qw(:DEFAULT inet_pton inet_ntop);
use POSIX ();

my ($dev, $own, $least, $most, $peers) = @ARGV;
my $probe = pack('C2 x6 a*', 0, 0, 'hactl preflight');
my ($protocol, $af_packet, $attach_filter, $get_index) = (112, 17, 26, 0x8933);

sub none { print 'vrrp none ', @_, "\n"; exit 0 }

# What the firewall of this host lets in. keepalived binds its sockets for
# unicast to the address, not to an interface.
my $family = $own =~ /:/ ? AF_INET6 : AF_INET;
sub address {
	my $ip = inet_pton($family, $_[0]) or none("$_[0] is no address");
	return $family == AF_INET6 ? pack_sockaddr_in6(0, $ip) : pack_sockaddr_in(0, $ip);
}
socket(my $raw, $family, SOCK_RAW, $protocol) or none("raw socket: $!");
bind($raw, address($own)) or none("bind to $own: $!");
$_ = inet_ntop($family, inet_pton($family, $_)) for $own;
my $request = pack('a15 x25', $dev);
ioctl($raw, $get_index, $request) or none("$dev: $!");
my $index = unpack('x16 i', $request);

# What comes to any interface, before any firewall. The kernel passes on
# protocol 112 alone: ldb [where]; jeq 112; ret all; ret nothing.
sub wire {
	my ($type, $where) = @_;
	my $code = join '', map { pack('SCCL', @$_) } [0x30, 0, 0, $where], [0x15, 0, 1, $protocol], [6, 0, 0, 0xffff], [6, 0, 0, 0];
	socket(my $s, $af_packet, SOCK_DGRAM, 0) or none("packet socket: $!");
	setsockopt($s, SOL_SOCKET, $attach_filter, pack('S x!8 P', 4, $code)) or none("filter: $!");
	bind($s, pack('S n x16', $af_packet, $type)) or none("bind to all interfaces: $!");
	return $s;
}
my %wire = (AF_INET, wire(0x0800, 9), AF_INET6, wire(0x86dd, 6));

# Network cards and switches hand on only what was asked for: 224.0.0.18, ff02::12.
my @joined;
for ([AF_INET, 0, 35, pack('a4 x4 i', inet_pton(AF_INET, '224.0.0.18'), $index)],
	[AF_INET6, 41, 20, pack('a16 i', inet_pton(AF_INET6, 'ff02::12'), $index)]) {
	my ($af, $level, $join, $group) = @$_;
	my $s;
	push @joined, $s if socket($s, $af, SOCK_DGRAM, 0) && setsockopt($s, $level, $join, $group);
}

my %said;
sub say_once { my $line = "@_\n"; print $line if keys %said < 200 && !$said{$line}++ }

# A packet from its IP header on, as (source, VRRP).
sub parse {
	my ($af, $packet) = @_;
	return (inet_ntop($af, substr($packet, 8, 16)), substr($packet, 40)) if $af == AF_INET6 && length $packet >= 40;
	my $header = 4 * (ord($packet) & 15);
	return (inet_ntop($af, substr($packet, 12, 4)), substr($packet, $header)) if $af == AF_INET && length $packet >= $header && $header >= 20;
	return;
}

sub on_wire {
	my ($af) = @_;
	my $on = recv($wire{$af}, my $packet, 2048, MSG_DONTWAIT) // return;
	my ($from, $vrrp) = parse($af, $packet) or return;
	return say_once('vrrp-wire', $from) if index($vrrp, $probe) == 0;
	return if (unpack('S n i', $on))[2] != $index;
	my ($kind, $id, undef, $count) = unpack('C4', $vrrp);
	return if length $vrrp < 8 || $kind != 0x21 && $kind != 0x31;
	my $size = $af == AF_INET6 ? 16 : 4;
	my @addresses;
	for (my $at = 8; @addresses < $count && @addresses < 20 && $at + $size <= length $vrrp; $at += $size) {
		push @addresses, inet_ntop($af, substr($vrrp, $at, $size));
	}
	say_once('vrrp-advert', $from, $kind >> 4, $id, @addresses);
}

my (%heard, %hears_us);
sub let_in {
	my $from = recv($raw, my $packet, 2048, MSG_DONTWAIT) // return;
	my $vrrp = $packet;
	$vrrp = (parse(AF_INET, $packet))[1] // '' if $family == AF_INET;
	my (undef, $ip) = $family == AF_INET6 ? unpack_sockaddr_in6($from) : unpack_sockaddr_in($from);
	return if index($vrrp, $probe) != 0;
	$ip = inet_ntop($family, $ip);
	$heard{$ip} = 1;
	say_once('vrrp-probe', $ip);
	for (split ' ', substr($vrrp, length $probe)) { $hears_us{$ip} = 1 if $_ eq $own }
}

my (%sent, %unsent);
my @peers = split ' ', $peers;
sub send_all {
	for my $peer (@peers) {
		if (defined send($raw, join(' ', $probe, keys %heard), 0, address($peer))) { $sent{$peer} = 1 } else { $unsent{$peer} = "$!" }
	}
}

sub now { return (POSIX::times())[0] / POSIX::sysconf(POSIX::_SC_CLK_TCK()) }
sub done {
	my $took = now() - $_[0];
	return $took >= ((grep { !$heard{$_} || !$hears_us{$_} } @peers) ? $most : $least);
}
sub listen_for {
	my $ready = '';
	vec($ready, fileno $_, 1) = 1 for $raw, values %wire;
	return unless select($ready, undef, undef, $_[0]) > 0;
	let_in() if vec($ready, fileno $raw, 1);
	for my $af (keys %wire) { on_wire($af) if vec($ready, fileno $wire{$af}, 1) }
}

# The times between which probes were sent and heard for sure.
my $began = now();
send_all();
print 'vrrp-from ', `date +%s%N`;
my $next = now();
until (done($began)) {
	if (now() >= $next) { send_all(); $next = now() + 0.1 }
	listen_for(0.05);
}
print 'vrrp-until ', `date +%s%N`;
for (1 .. 3) { send_all(); listen_for(0.01) for 1 .. 3 } # who is heard last is told as well
$sent{$_} or say_once('vrrp-unsent', $_, $unsent{$_}) for keys %unsent;
print "vrrp heard\n";
