package cage

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"hactl/internal/remote"
	"hactl/internal/sys"
)

// parse reads the answer of the script. One that ends early is an error: what is missing
// in it could have been a refusal.
func parse(text string) (*Outcome, error) {
	out := &Outcome{Keys: -1, Objects: map[string]int{}}
	lines, err := sys.Lines(text)
	if err != nil {
		return nil, fmt.Errorf("try in the cage: %w", err)
	}
	for _, line := range lines {
		key, value, _ := strings.Cut(remote.Clean(line), " ")
		if err := out.add(key, value); err != nil {
			return nil, fmt.Errorf("try in the cage: unreadable answer %q: %w", remote.Clean(line), err)
		}
	}
	return out, nil
}

func (o *Outcome) add(key, value string) (err error) {
	switch key {
	case "refused":
		if o.Refused = value; stages[value] == "" {
			return errors.New("an unknown stage")
		}
	case "|":
		o.Log = append(o.Log, value)
	case "etcd":
		o.Etcd = value
	case "keys":
		o.Keys, err = strconv.Atoi(value)
	case "revision":
		o.Revision, err = strconv.ParseInt(value, 10, 64)
	case "apiserver":
		o.Kubernetes = value
	case "ready":
		o.Ready, err = strconv.ParseFloat(value, 64)
	case "read":
		o.Read, err = strconv.ParseFloat(value, 64)
	case "objects":
		n, kind, _ := strings.Cut(value, " ")
		o.Objects[kind], err = strconv.Atoi(n)
	case "unreadable":
		o.Unreadable = append(o.Unreadable, value)
	default:
		return errors.New("an unknown word")
	}
	return err
}
