// Package soft is what the providers of ndk share because it is the same in
// all of them: the lifetimes of objects, and for providers that have no adapter
// beneath them the memory model and the queues.
package soft
