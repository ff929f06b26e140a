// Package smbconf reads configuration files in the format of Samba's smb.conf, with
// Samba's names and meanings for the parameters that this server has.
//
//	cfg, err := smbconf.Load("/etc/smbd-rdma/smb.conf", smbconf.Options{})
//	if err != nil {
//		return err // the file cannot be read
//	}
//	for _, p := range cfg.Problems {
//		log.Print(p) // FILE:LINE: severity: what, and what to do
//	}
//	if cfg.Failed() {
//		return errors.New("the configuration has errors")
//	}
//	for _, sh := range cfg.Shares {
//		fmt.Println(sh.Name, sh.String("path"), sh.Bool("read only"))
//	}
//
// [Keys] is the table of everything that is understood, with type, default,
// documentation and the differences from Samba; the reference that users read is made
// of it. A parameter that is Samba's but has no effect here is a problem of its own
// kind: a note where nothing is lost by that (printing, browsing), a warning where
// somebody may miss something. A parameter that Samba does not have either is a
// warning, a value that makes no sense an error.
//
// The format is Samba's: "[section]" and "name = value" lines, comments from # or ; at
// the beginning of a line, a backslash at the end of a line continues it, white space
// in and around names does not count and within values counts as one space. Names are
// compared without regard to case. What stands before the first section belongs to
// [global]; share parameters in [global] are the defaults of all shares; a section
// that occurs twice is one. "include" takes another file in, "copy" another section.
//
// A Config is not changed after Load, and may be read by many goroutines.
package smbconf
