// Package e2e has the tests of the whole stack in one process: a server on TCP
// and on SMB Direct, clients that do it right, and peers beside them that do
// not. They hold the stack to one sentence: anything a peer can send wrong costs
// that peer its connection, or gets the NTSTATUS that [MS-SMB2] names; the server
// keeps serving the others, leaks no goroutine, descriptor or registration, and
// loses no acknowledged write.
//
// The hostile peers are made of octets by hand: their MPA, DDP, RDMAP and SMB
// Direct share no code with the packages under test.
package e2e
