package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"hactl/internal/remote"
	"hactl/internal/wait"
	"hactl/inventory"
)

// statusTimeout bounds the look at one member: past it the member hangs.
const statusTimeout = 3 * time.Second

// MemberStatus is what one member says of itself.
type MemberStatus struct {
	Name      string        `json:"name"`                  // inventory name
	Reachable bool          `json:"reachable"`             // it answered
	Healthy   bool          `json:"healthy"`               // a voter that follows, or is, the leader
	ID        uint64        `json:"id,omitempty"`          // member id
	ClusterID uint64        `json:"clusterID,omitempty"`   //
	Leader    bool          `json:"leader,omitempty"`      // it says that it leads
	LeaderID  uint64        `json:"leaderID,omitempty"`    // whom it follows; 0 when it knows no leader
	Learner   bool          `json:"learner,omitempty"`     //
	RaftIndex uint64        `json:"raftIndex,omitempty"`   //
	Applied   uint64        `json:"applied,omitempty"`     // applied raft index
	RaftTerm  uint64        `json:"raftTerm,omitempty"`    //
	DBSize    int64         `json:"dbSize,omitempty"`      // bytes on disk
	DBInUse   int64         `json:"dbSizeInUse,omitempty"` // bytes in use
	Version   string        `json:"version,omitempty"`     // of the server, without v
	Alarms    []string      `json:"alarms,omitempty"`      // such as NOSPACE, CORRUPT
	Errors    []string      `json:"errors,omitempty"`      // what else it complains of
	Took      time.Duration `json:"took_ns"`               //
	Err       error         `json:"-"`                     // why it did not answer, or does not count
	Problem   string        `json:"problem,omitempty"`     // Err as text

	unknown bool // could not look; false: nothing listens
	list    []Listed
}

// Listed is an entry of etcd's own member list.
type Listed struct {
	ID         uint64   `json:"id"`
	Name       string   `json:"name"` // empty until the member has started once
	PeerURLs   []string `json:"peerURLs"`
	ClientURLs []string `json:"clientURLs"`
	Learner    bool     `json:"learner"`
}

// Status is the cluster at one moment.
type Status struct {
	Members []MemberStatus `json:"members"` // in the order given to Dial
	Listed  []Listed       `json:"listed"`  // etcd's member list, as the leader or else any member has it
	Voters  int            `json:"voters"`  // of the list; without one, as many as were given to Dial
	Healthy int            `json:"healthy"` // voters that answered and follow the leader
	Leaders int            `json:"leaders"` // members that say they lead
	Leader  string         `json:"leader"`  // inventory name, or ""
	Quorum  bool           `json:"quorum"`  // healthy voters are a majority
}

// Needed is how many voters a quorum takes.
func (s *Status) Needed() int { return s.Voters/2 + 1 }

// Member returns the status of the member of that inventory name, or nil.
func (s *Status) Member(name string) *MemberStatus {
	for i := range s.Members {
		if s.Members[i].Name == name {
			return &s.Members[i]
		}
	}
	return nil
}

// Strangers are the members of etcd's list that are of no master of the
// inventory: left over from a host that was taken out of it, or added without hactl.
func (s *Status) Strangers(inv *inventory.Inventory) []Listed {
	var out []Listed
	for _, l := range s.Listed {
		if !slices.ContainsFunc(inv.Masters(), l.of) {
			out = append(out, l)
		}
	}
	return out
}

// of tells a master's member by its name, or, since a member has none until it
// has started once, by where its peers reach it.
func (l Listed) of(m *inventory.Host) bool {
	return l.Name == m.Name || slices.Contains(l.PeerURLs, PeerURL(m))
}

// String is such as "master-3 (https://192.0.2.13:2380)".
func (l Listed) String() string {
	return remote.Clean(strings.TrimSpace(l.Name + " (" + strings.Join(l.PeerURLs, ", ") + ")"))
}

// Status asks every member at once; it takes three seconds at most. It never
// fails as a whole: what could not be asked is in the member's Err.
func (c *Cluster) Status(ctx context.Context) *Status {
	s := &Status{Members: make([]MemberStatus, len(c.conns))}
	var wg sync.WaitGroup
	for i, cn := range c.conns {
		wg.Go(func() { s.Members[i] = cn.status(ctx) })
	}
	wg.Wait()
	s.judge()
	return s
}

func (cn *conn) status(ctx context.Context) MemberStatus {
	ctx, cancel := wait.Within(ctx, "an answer of etcd on "+cn.Name, statusTimeout)
	defer cancel()
	start := time.Now()
	m := MemberStatus{Name: cn.Name}
	// clientv3's Status opens a connection for each call; over ssh that counts.
	maintenance := pb.NewMaintenanceClient(cn.client.ActiveConnection())
	resp, err := maintenance.Status(ctx, &pb.StatusRequest{})
	if grpcstatus.Code(err) == codes.Unavailable && cn.lastDial() == nil {
		// The connection from before is gone, as after a restart of the member.
		// The second look is over a new one, or says why there is none.
		resp, err = maintenance.Status(ctx, &pb.StatusRequest{})
	}
	m.Took = time.Since(start)
	if err != nil {
		m.Err, m.unknown = cn.explain(ctx, err)
		return m
	}
	m.Reachable = true
	m.ID, m.ClusterID = resp.Header.GetMemberId(), resp.Header.GetClusterId()
	m.LeaderID, m.Learner, m.Version = resp.Leader, resp.IsLearner, resp.Version
	m.Leader = m.LeaderID != 0 && m.LeaderID == m.ID
	m.RaftIndex, m.Applied, m.RaftTerm = resp.RaftIndex, resp.RaftAppliedIndex, resp.RaftTerm
	m.DBSize, m.DBInUse = resp.DbSize, resp.DbSizeInUse
	m.Alarms, m.Errors = complaints(resp.Errors, m.ID)
	// Without linearizable it answers without a quorum too, from what it has.
	list, err := cn.client.MemberList(ctx, clientv3.WithSerializable())
	if err != nil {
		m.Err, m.unknown = cn.explain(ctx, err)
		return m
	}
	m.list = listed(list.Members)
	return m
}

func listed(members []*pb.Member) []Listed {
	out := make([]Listed, 0, len(members))
	for _, e := range members {
		out = append(out, Listed{ID: e.ID, Name: e.Name, PeerURLs: e.PeerURLs, ClientURLs: e.ClientURLs, Learner: e.IsLearner})
	}
	return out
}

// complaints parts what a member complains of into its alarms, which etcd
// prints as `memberID:1234 alarm:NOSPACE `, and the rest. Each member tells of
// the alarms of all.
func complaints(texts []string, id uint64) (alarms, errs []string) {
	for _, t := range texts {
		var who uint64
		var what string
		if n, _ := fmt.Sscanf(t, "memberID:%d alarm:%s", &who, &what); n == 2 {
			if who == id {
				alarms = append(alarms, what)
			}
			continue
		}
		errs = append(errs, strings.TrimSpace(t))
	}
	return alarms, errs
}

// explain turns a grpc error into the cause that a person can act on. Only one
// cause proves that the member serves no client: its host was asked and no
// process listens. After any other cause, other clients may still reach it.
func (cn *conn) explain(ctx context.Context, err error) (cause error, unknown bool) { //nolint:revive // the cause is the result, not a failure to find it
	st, _ := grpcstatus.FromError(err)
	dial := cn.lastDial()
	switch st.Code() {
	case codes.Unavailable:
		if dial != nil {
			return dial, remote.Unreachable(dial)
		}
	case codes.DeadlineExceeded, codes.Canceled:
		if dial != nil {
			return dial, true
		}
		return fmt.Errorf("no answer within %s: %w", wait.Bound(ctx, statusTimeout), context.DeadlineExceeded), true
	}
	text := strings.TrimPrefix(st.Message(), "connection error: desc = ")
	if plain, err := strconv.Unquote(text); err == nil {
		text = plain
	}
	return errors.New(strings.TrimPrefix(text, "transport: ")), true
}

// judge decides from what the members said.
func (s *Status) judge() {
	lead := s.reference()
	s.Voters = len(s.Members)
	if lead != nil {
		s.Listed, s.Voters = lead.list, 0
		for _, l := range lead.list {
			if !l.Learner {
				s.Voters++
			}
		}
	}
	for i := range s.Members {
		m := &s.Members[i]
		switch {
		case m.Err != nil:
		case lead != nil && m.ClusterID != lead.ClusterID:
			m.Err = fmt.Errorf("is in another cluster: id %x, the others are in %x", m.ClusterID, lead.ClusterID)
		case m.LeaderID == 0:
			m.Err = errors.New("knows no leader")
		case lead != nil && m.LeaderID != lead.LeaderID:
			m.Err = fmt.Errorf("follows %x, the others %x", m.LeaderID, lead.LeaderID)
		case !slices.ContainsFunc(s.Listed, func(l Listed) bool { return l.ID == m.ID }):
			m.Err = errors.New("is not in the member list of the others")
		case !m.Learner:
			m.Healthy = true
			s.Healthy++
		}
		if m.Err != nil {
			m.Problem = m.Err.Error()
		}
		if m.Leader {
			s.Leaders++
		}
		if m.Leader && m.Healthy {
			s.Leader = m.Name
		}
	}
	s.Quorum = s.Healthy >= s.Needed()
}

// reference picks the member by which the others are judged: of the cluster
// that most members are in, the one with the highest term, a leader first.
func (s *Status) reference() *MemberStatus {
	size := map[uint64]int{}
	for _, m := range s.Members {
		if m.Err == nil {
			size[m.ClusterID]++
		}
	}
	var best *MemberStatus
	better := func(a, b *MemberStatus) bool {
		switch {
		case size[a.ClusterID] != size[b.ClusterID]:
			return size[a.ClusterID] > size[b.ClusterID]
		case (a.LeaderID != 0) != (b.LeaderID != 0):
			return a.LeaderID != 0
		case a.RaftTerm != b.RaftTerm:
			return a.RaftTerm > b.RaftTerm
		}
		return a.Leader && !b.Leader
	}
	for i := range s.Members {
		if m := &s.Members[i]; m.Err == nil && (best == nil || better(m, best)) {
			best = m
		}
	}
	return best
}
