// Command hactl-network runs on every host as a systemd unit and puts back what pods
// need in the host's kernel. It is built for Linux alone. See internal/network.
package main
