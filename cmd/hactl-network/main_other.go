//go:build !linux

package main

func main() { panic("hactl-network runs on Linux") }
