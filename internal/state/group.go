package state

// Group is checks of one area that have the same outcome, with what they are
// about.
type Group struct {
	Check
	Names []string
}

// Grouped puts checks of one area with the same state and detail together, in
// order.
func (r *Report) Grouped() []Group {
	var out []Group
	at := map[Check]int{}
	for _, k := range r.Checks {
		key := k
		key.What = ""
		i, ok := at[key]
		if !ok {
			i = len(out)
			at[key] = i
			out = append(out, Group{Check: k})
		}
		out[i].Names = append(out[i].Names, k.What)
	}
	return out
}
