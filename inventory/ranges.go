package inventory

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Ranges writes host names for a person, consecutive numbers as ranges:
// "master-1..3, worker-1, worker-3". Names keep the order of the first of their
// kind; a name given twice counts once.
func Ranges(names []string) string {
	var all []*series
	for _, name := range names {
		stem, digits := cutNumber(name)
		n, err := strconv.Atoi(digits)
		if err != nil || len(digits) > 9 {
			stem, digits, n = name, "", -1
		}
		i := slices.IndexFunc(all, func(s *series) bool { return s.takes(stem, digits) })
		if i < 0 {
			i = len(all)
			all = append(all, &series{stem: stem, numbered: digits != ""})
			if padded(digits) {
				all[i].width = len(digits)
			}
		}
		all[i].numbers = append(all[i].numbers, n)
	}
	var out []string
	for _, s := range all {
		out = append(out, s.ranges()...)
	}
	return strings.Join(out, ", ")
}

// CountOf is Ranges with how many of all hosts they are: "3 of 53 hosts:
// worker-1..3". It is "all 53 hosts" for all of them.
func CountOf(names []string, all int) string {
	if len(names) == all && all > 1 {
		return fmt.Sprintf("all %d hosts", all)
	}
	return fmt.Sprintf("%d of %d hosts: %s", len(names), all, Ranges(names))
}

// series is hosts whose names differ in the number at their end.
type series struct {
	stem     string
	numbered bool
	width    int // of numbers with leading zeros, 0 for numbers without
	numbers  []int
}

// takes reports whether a name belongs to s: node08, node09 and node10 are one
// series, node9 is not in it.
func (s *series) takes(stem, digits string) bool {
	if stem != s.stem || s.numbered != (digits != "") {
		return false
	}
	return s.width == len(digits) || s.width == 0 && !padded(digits)
}

func padded(digits string) bool { return len(digits) > 1 && digits[0] == '0' }

func cutNumber(name string) (stem, digits string) {
	stem = strings.TrimRight(name, "0123456789")
	return stem, name[len(stem):]
}

// ranges writes the numbers in order.
func (s *series) ranges() []string {
	if !s.numbered {
		return []string{s.stem}
	}
	slices.Sort(s.numbers)
	numbers := slices.Compact(s.numbers)
	var out []string
	for i := 0; i < len(numbers); {
		end := i
		for end+1 < len(numbers) && numbers[end+1] == numbers[end]+1 {
			end++
		}
		text := fmt.Sprintf("%s%0*d", s.stem, s.width, numbers[i])
		if end > i {
			text += fmt.Sprintf("..%0*d", s.width, numbers[end])
		}
		out, i = append(out, text), end+1
	}
	return out
}
