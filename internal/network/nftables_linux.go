package network

import (
	"errors"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// The table of hactl and its one chain.
const (
	podsTable = "hactl_pods"
	podsChain = "postrouting"
)

// tables opens the kernel's tables; done closes them.
func tables() (c *nftables.Conn, done func(), err error) {
	c, err = nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, nil, err
	}
	return c, func() { _ = c.CloseLasting() }, nil
}

func familyOf(p netip.Prefix) nftables.TableFamily {
	if p.Addr().Is4() {
		return nftables.TableFamilyIPv4
	}
	return nftables.TableFamilyIPv6
}

// comment tells our rule from that of an older hactl, and for which network it is.
func comment(pods netip.Prefix) string { return "hactl: pods " + pods.String() }

// Masquerades implements [Kernel].
func (Linux) Masquerades(pods netip.Prefix) (bool, error) {
	c, done, err := tables()
	if err != nil {
		return false, err
	}
	defer done()
	t := &nftables.Table{Name: podsTable, Family: familyOf(pods)}
	rules, err := rulesOf(c, t, podsChain)
	if err != nil || len(rules) != 1 {
		return false, err
	}
	text, _ := userdata.GetString(rules[0].UserData, userdata.TypeComment)
	return text == comment(pods), nil
}

// rulesOf are the rules of a chain; none when chain or table are not there.
func rulesOf(c *nftables.Conn, t *nftables.Table, chain string) ([]*nftables.Rule, error) {
	rules, err := c.GetRules(t, &nftables.Chain{Name: chain, Table: t})
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	return rules, err
}

// SetMasquerade implements [Kernel]: the table is written anew in one transaction.
func (Linux) SetMasquerade(pods netip.Prefix) error {
	c, done, err := tables()
	if err != nil {
		return err
	}
	defer done()
	t := &nftables.Table{Name: podsTable, Family: familyOf(pods)}
	c.AddTable(t) // so that there is one to delete
	c.DelTable(t)
	c.AddTable(t)
	chain := c.AddChain(&nftables.Chain{
		Name: podsChain, Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	c.AddRule(&nftables.Rule{
		Table: t, Chain: chain, Exprs: fromAndNotTo(pods),
		UserData: userdata.AppendString(nil, userdata.TypeComment, comment(pods)),
	})
	return c.Flush()
}

// fromAndNotTo masquerades what comes from the network and does not go to it.
func fromAndNotTo(pods netip.Prefix) []expr.Any {
	source, destination := uint32(12), uint32(16)
	if pods.Addr().Is6() {
		source, destination = 8, 24
	}
	return append(append(compare(pods, source, expr.CmpOpEq), compare(pods, destination, expr.CmpOpNeq)...), &expr.Masq{})
}

// compare takes the address at the offset of the IP header.
func compare(p netip.Prefix, offset uint32, op expr.CmpOp) []expr.Any {
	a := p.Masked().Addr().AsSlice()
	size := uint32(len(a))
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: net.CIDRMask(p.Bits(), 8*len(a)), Xor: make([]byte, size)},
		&expr.Cmp{Op: op, Register: 1, Data: a},
	}
}

// proxyTables are the chains that a kube-proxy at work never leaves empty: where its
// tables are joined to the kernel's hooks.
var proxyTables = map[string][]struct{ table, chain, jump string }{
	"nftables": {
		{"kube-proxy", "nat-prerouting", ""}, {"kube-proxy", "nat-output", ""}, {"kube-proxy", "nat-postrouting", ""}, {"kube-proxy", "services", ""},
	},
	"iptables": {
		{"nat", "PREROUTING", "KUBE-SERVICES"}, {"nat", "OUTPUT", "KUBE-SERVICES"}, {"nat", "POSTROUTING", "KUBE-POSTROUTING"},
		{"nat", "KUBE-SERVICES", ""}, {"nat", "KUBE-POSTROUTING", ""}, {"filter", "FORWARD", "KUBE-FORWARD"}, {"filter", "KUBE-FORWARD", ""},
	},
}

// ProxyChains implements [Kernel].
func (Linux) ProxyChains(mode string) (map[string]bool, error) {
	c, done, err := tables()
	if err != nil {
		return nil, err
	}
	defer done()
	out := map[string]bool{}
	for name, family := range map[string]nftables.TableFamily{"ip": nftables.TableFamilyIPv4, "ip6": nftables.TableFamilyIPv6} {
		for _, p := range proxyTables[mode] {
			rules, err := rulesOf(c, &nftables.Table{Name: p.table, Family: family}, p.chain)
			if err != nil {
				return nil, err
			}
			out[name+" "+p.table+" "+p.chain] = p.jump == "" && len(rules) > 0 || p.jump != "" && jumps(rules, p.jump)
		}
	}
	return out, nil
}

// ClearProxy implements [Kernel]. iptables' tables are not kube-proxy's alone, and it
// writes them whole when it starts.
func (Linux) ClearProxy(mode string) error {
	if mode != "nftables" {
		return nil
	}
	c, done, err := tables()
	if err != nil {
		return err
	}
	defer done()
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
		t := &nftables.Table{Name: "kube-proxy", Family: family}
		c.AddTable(t) // so that there is one to delete
		c.DelTable(t)
	}
	return c.Flush()
}

func jumps(rules []*nftables.Rule, to string) bool {
	for _, r := range rules {
		for _, e := range r.Exprs {
			if v, ok := e.(*expr.Verdict); ok && v.Chain == to {
				return true
			}
		}
	}
	return false
}
