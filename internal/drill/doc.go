// Package drill breaks a cluster on purpose, times what its clients see, and
// judges the result against bounds.
//
// A [Scenario] says who is hit by which [Fault] and what is checked. One run of
// it goes like this:
//
//	look       everything healthy, one VIP owner, one etcd leader, nothing left over
//	traffic    open-loop probes through the VIP, to every apiserver, to etcd
//	arm        a systemd timer on every victim that will undo the fault by itself
//	fault      done on the victims, only while their timers are armed
//	proof      the fault really is in effect; a fault that does nothing fails the run
//	hold, undo the timer is stopped once the undo has been done
//	heal       healthy again, within a bound
//	read back  every acknowledged write is asked for on every apiserver and in etcd
//	judge      the largest gaps, owners, leases; the plan must be empty again
//
// [During] sends the same requests around an operation of hactl instead of a fault.
//
// Killing hactl at any moment therefore leaves hosts that heal themselves. The
// package reaches hosts by remote.Host only, speaks to the Kubernetes API with
// net/http, and takes etcd and the plan as interfaces from its caller.
package drill
