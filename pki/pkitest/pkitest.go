// Package pkitest hands keys and certificates to the tests of other packages.
package pkitest

import (
	"testing"

	"hactl/inventory"
	"hactl/pki"
)

// Material is everything that the inventory's hosts need, made for this test.
func Material(t testing.TB, inv *inventory.Inventory) *pki.Material {
	t.Helper()
	store, err := pki.Open(inv)
	if err != nil {
		t.Fatal(err)
	}
	m, _, err := store.Preview(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return m
}
