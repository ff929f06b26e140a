// Package peers has the tests that need other people's programs: smbclient and
// smbd of Samba, go-smb2, tshark. They have the build tag "peers" and run by
// `make peers-test`, which says what to install.
package peers
