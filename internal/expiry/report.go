package expiry

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kind names a finding.
type Kind string

// The findings. Due and Ending want something done in time; the others are wrong now.
const (
	Due        Kind = "due"           // ends within the time that was asked about
	Ending     Kind = "ca-ends"       // a CA that ends before new leaves of it would
	Expired    Kind = "expired"       //
	NotYet     Kind = "not-yet-valid" // for the clock of the host that has it
	NotInUse   Kind = "not-in-use"    // the file is another certificate than the process serves
	KeyDiffers Kind = "key-differs"   // the key beside it is another one's
	Untrusted  Kind = "untrusted"     // of a CA that is not the cluster's
	Unreadable Kind = "unreadable"    // no certificate where one has to be
	KeyMode    Kind = "key-mode"      // other users can read the key
	NotRotated Kind = "not-rotated"   // a kubelet that should have renewed its own by now
)

// Finding is one thing that is wrong with a certificate.
type Finding struct {
	Kind  Kind   `json:"kind"`
	Where string `json:"where"` // host and file or port
	Text  string `json:"text"`
}

// Row is one certificate: one public key, wherever it was seen.
type Row struct {
	Name      string    `json:"name"` // of its file or of the pair in the store
	Host      string    `json:"host,omitempty"`
	Subject   string    `json:"subject,omitempty"`
	Issuer    string    `json:"issuer,omitempty"`
	Serial    string    `json:"serial,omitempty"` // hex, of the newest
	NotBefore time.Time `json:"notBefore,omitzero"`
	NotAfter  time.Time `json:"notAfter,omitzero"`
	Days      int       `json:"days"` // whole days left, negative once expired
	CA        bool      `json:"ca,omitempty"`
	Places    []string  `json:"places"` // "store", "disk master-1:/etc/…", "wire master-1:6443"
	Findings  []Finding `json:"findings,omitempty"`
}

// Report is all certificates, the first to expire first.
type Report struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Cluster    string            `json:"cluster"`
	Within     string            `json:"within"`
	Rows       []Row             `json:"certificates"`
	Unseen     map[string]string `json:"unseen,omitempty"` // what could not be looked at, with the reason
	// Waiting are certificates that an authority has to sign whose key is not here, each with
	// the authority and the reason; Next is the command that goes on.
	Waiting []string `json:"waiting,omitempty"`
	Next    string   `json:"next,omitempty"`
}

// Rules are what evidence is judged by.
type Rules struct {
	Now    time.Time
	Within time.Duration       // a certificate that ends sooner is due
	Life   time.Duration       // of new leaves
	CAs    []*x509.Certificate // that the cluster trusts
	Serves map[string]([]Port) // of each host
}

// Judge makes the report.
func Judge(e Evidence, r Rules) *Report {
	out := &Report{APIVersion: "hactl/v1", Kind: "Certificates", Within: r.Within.String(), Unseen: map[string]string{}}
	for who, err := range e.Unseen {
		out.Unseen[who] = err.Error()
	}
	rows := map[string]*Row{}
	var order []string
	places := []Place{Disk, Store, API, Wire} // a row has the name of its file
	slices.SortStableFunc(e.Seen, func(a, b Sighting) int {
		return cmp.Compare(slices.Index(places, a.Place), slices.Index(places, b.Place))
	})
	for _, s := range e.Seen {
		key := rowKey(s)
		if rows[key] == nil {
			rows[key] = &Row{}
			order = append(order, key)
		}
		rows[key].add(s)
		rows[key].Findings = append(rows[key].Findings, r.of(s, e)...)
	}
	r.inUse(e, rows)
	r.keys(e, rows)
	for _, key := range order {
		row := rows[key]
		row.Days = int(math.Floor(row.NotAfter.Sub(r.Now).Hours() / 24))
		row.Findings = once(row.Findings)
		out.Rows = append(out.Rows, *row)
	}
	slices.SortStableFunc(out.Rows, func(a, b Row) int {
		return cmp.Or(a.NotAfter.Compare(b.NotAfter), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// rowKey is the public key, or the place of what has none.
func rowKey(s Sighting) string {
	if s.Cert == nil {
		return s.where()
	}
	sum := sha256.Sum256(s.Cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

func (s Sighting) where() string {
	if s.Host == "" {
		return string(s.Place) + " " + s.What
	}
	return string(s.Place) + " " + s.Host + ":" + s.What
}

// add notes one more place. The row tells of the newest certificate of a file or of
// the store, and of another one only where there is none.
func (row *Row) add(s Sighting) {
	row.Places = append(row.Places, s.where())
	if row.Name == "" {
		row.Name, row.Host = path.Base(s.What), s.Host
	}
	if s.Cert == nil || row.NotAfter.After(s.Cert.NotAfter) || s.Place == Wire && row.Serial != "" {
		return
	}
	row.Subject, row.Issuer, row.Serial = s.Cert.Subject.String(), s.Cert.Issuer.String(), s.Cert.SerialNumber.Text(16)
	row.NotBefore, row.NotAfter, row.CA = s.Cert.NotBefore, s.Cert.NotAfter, s.Cert.IsCA
	if s.Cert.IsCA { // the same on every host
		row.Host = ""
	}
}

// of is what is wrong with one sighting by itself.
func (r Rules) of(s Sighting, e Evidence) []Finding {
	if s.Cert == nil {
		return []Finding{{Unreadable, s.where(), s.Problem}}
	}
	var out []Finding
	found := func(k Kind, format string, args ...any) {
		out = append(out, Finding{k, s.where(), fmt.Sprintf(format, args...)})
	}
	left := s.Cert.NotAfter.Sub(r.Now)
	life := s.Cert.NotAfter.Sub(s.Cert.NotBefore)
	switch {
	case left <= 0:
		found(Expired, "expired on %s", s.Cert.NotAfter.UTC().Format(time.DateOnly))
	case rotatesItself(s):
		if left < life/10 {
			found(NotRotated, "its kubelet should have renewed it by now: it ends on %s", s.Cert.NotAfter.UTC().Format(time.DateOnly))
		}
	case s.Cert.IsCA && left < max(r.Within, min(r.Life, 365*24*time.Hour)):
		found(Ending, "the CA ends on %s, and what it signs with it", s.Cert.NotAfter.UTC().Format(time.DateOnly))
	case left < r.Within:
		found(Due, "ends on %s", s.Cert.NotAfter.UTC().Format(time.DateOnly))
	}
	if at := r.Now.Add(e.Clocks[s.Host]); s.Cert.NotBefore.After(at) {
		found(NotYet, "is valid from %s, and the clock of %s says %s", s.Cert.NotBefore.UTC().Format(time.DateTime), cmp.Or(s.Host, "this machine"), at.UTC().Format(time.DateTime))
	}
	if !s.Others && !r.trusted(s.Cert) {
		found(Untrusted, "is of %q, which is not a CA of this cluster", s.Cert.Issuer)
	}
	return out
}

// rotatesItself reports whether a kubelet renews the certificate.
func rotatesItself(s Sighting) bool {
	return s.Place == Disk && strings.HasPrefix(path.Base(s.What), "kubelet-client-")
}

// trusted reports whether a CA of the cluster signed the certificate, or it is one.
func (r Rules) trusted(c *x509.Certificate) bool {
	for _, ca := range r.CAs {
		if ca.Equal(c) || c.CheckSignatureFrom(ca) == nil {
			return true
		}
	}
	return false
}

// inUse compares what a port serves with the file that it is to serve.
func (r Rules) inUse(e Evidence, rows map[string]*Row) {
	find := func(place Place, host, what string) *Sighting {
		for i, s := range e.Seen {
			if s.Place == place && s.Host == host && s.What == what && s.Cert != nil {
				return &e.Seen[i]
			}
		}
		return nil
	}
	for host, ports := range r.Serves {
		for _, p := range ports {
			file, wire := find(Disk, host, p.File), find(Wire, host, p.Addr)
			if file == nil || wire == nil || file.Cert.Equal(wire.Cert) {
				continue
			}
			row := rows[rowKey(*file)]
			row.Findings = append(row.Findings, Finding{NotInUse, file.where(), fmt.Sprintf("%s serves another certificate, of %s", p.Addr, wire.Cert.NotBefore.UTC().Format(time.DateTime))})
		}
	}
}

// keys judges the private keys beside certificates.
func (r Rules) keys(e Evidence, rows map[string]*Row) {
	for _, k := range e.Keys {
		beside := strings.TrimSuffix(k.File, ".key") + ".crt"
		var s *Sighting
		for i := range e.Seen {
			if e.Seen[i].Host == k.Host && e.Seen[i].Cert != nil && (e.Seen[i].What == beside || e.Seen[i].What == k.File) {
				s = &e.Seen[i]
				break
			}
		}
		if s == nil {
			continue // a key without a certificate, such as that of the service account
		}
		row := rows[rowKey(*s)]
		where := "disk " + k.Host + ":" + k.File
		if mode, err := strconv.ParseUint(k.Mode, 8, 32); err != nil || mode&0o077 != 0 {
			row.Findings = append(row.Findings, Finding{KeyMode, where, "mode " + k.Mode + ": others than its owner can read the key"})
		}
		if k.Public != "" && k.Public != base64.StdEncoding.EncodeToString(s.Cert.RawSubjectPublicKeyInfo) {
			row.Findings = append(row.Findings, Finding{KeyDiffers, where, "the key does not belong to the certificate beside it"})
		}
	}
}

func once(all []Finding) []Finding {
	var out []Finding
	for _, f := range all {
		if !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return out
}

// Bad reports whether something is wrong now, and Due whether something has to be
// done in time.
func (r *Report) Bad() bool {
	return r.any(func(k Kind) bool { return k != Due && k != Ending })
}

// Due reports whether something has to be done in time.
func (r *Report) Due() bool { return r.any(func(k Kind) bool { return k == Due || k == Ending }) }

func (r *Report) any(is func(Kind) bool) bool {
	for _, row := range r.Rows {
		for _, f := range row.Findings {
			if is(f.Kind) {
				return true
			}
		}
	}
	return false
}
