// Package mount tests `smbd-rdma mount` as programs use it: beside a local directory
// (diff), under other people's loads, by two mounts at once, and with servers that are
// killed. The tests are behind the build tag "mount", as they want /dev/fuse, root, and
// some Debian packages; make mount-test runs them within minutes, make mount-soak for
// longer.
package mount
