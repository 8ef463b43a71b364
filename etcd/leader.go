package etcd

import (
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Leads asks the member of that name alone whether it says that it leads. It is
// one request, cheap enough to be asked many times a second.
func (c *Cluster) Leads(ctx context.Context, name string) (bool, error) {
	cn := c.conn(name)
	if cn == nil {
		return false, fmt.Errorf("no etcd member is called %s", name)
	}
	resp, err := pb.NewMaintenanceClient(cn.client.ActiveConnection()).Status(ctx, &pb.StatusRequest{})
	if err != nil {
		cause, _ := cn.explain(err)
		return false, cause
	}
	return resp.Leader != 0 && resp.Leader == resp.Header.GetMemberId(), nil
}
