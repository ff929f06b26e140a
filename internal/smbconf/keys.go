package smbconf

import (
	"slices"
	"sync"
)

// Key is a parameter that is understood.
type Key struct {
	// Name is Samba's name of it; Synonyms are others, Inverse those that mean the
	// opposite.
	Name              string
	Synonyms, Inverse []string
	// Share: it may stand in a share, and in [global] for all of them.
	Share bool
	Kind  Kind
	// Default is what holds where the file says nothing.
	Default string
	// Words are those of an Enum, each with its other spellings behind |.
	Words []string
	// Min and Max bound an Int or Size.
	Min, Max int64
	// Dynamic are the letters of the variables that depend on who connects and may be
	// used.
	Dynamic string
	// Fixed are the only values that the server has: it does so whatever the file
	// says, and another value is a warning.
	Fixed []string

	// Group is the chapter of the reference, Text what the parameter means, Differs
	// what is not as with Samba; Markdown.
	Group, Text, Differs string
}

// Chapters of the reference.
const (
	gServer  = "The server and its network"
	gUsers   = "Users and guests"
	gAccess  = "Who may do what"
	gProtect = "Signing and encryption"
	gFiles   = "Files and their attributes"
	gNames   = "Names"
	gCaching = "Caching, locks and durable handles"
	gLimits  = "Limits"
	gOwn     = "Of this server alone"
	gFixed   = "Accepted where they say what is so anyway"
)

// Groups are the chapters in their order.
var Groups = []string{gServer, gUsers, gAccess, gProtect, gFiles, gNames, gCaching, gLimits, gOwn, gFixed}

var (
	// SMB2 is 2.1 with Samba, so that it shuts nobody out who has SMB2 as "min protocol".
	dialectWords    = []string{"smb2_10|smb2", "smb2_22", "smb2_24", "smb3_00|smb3_10", "smb3_02"}
	minDialectWords = slices.Concat([]string{"smb2_02|smb2_2|default"}, dialectWords, []string{"smb3_11|smb3", "nt1|lanman2|lanman1|coreplus|core+|core"})
	maxDialectWords = slices.Concat([]string{"smb2_02|smb2_2"}, dialectWords, []string{"smb3_11|smb3|default"})
	autoWords       = []string{"auto|default", "yes|true|on|1", "no|false|off|0"}
)

// Keys is the table of all parameters that are understood.
var Keys = []Key{
	// The server and its network.
	{Name: "workgroup", Default: "", Group: gServer,
		Text:    "The NTLM domain that the server says it belongs to, in capitals.",
		Differs: "The default is the server's own name (Samba: WORKGROUP)."},
	{Name: "netbios name", Default: "", Group: gServer,
		Text: "The server's name in authentication and listings, in capitals; by default the host's up to its first dot, at most 15 characters."},
	{Name: "server string", Default: "", Group: gServer,
		Text: "What listings of servers show."},
	{Name: "interfaces", Kind: List, Default: "", Group: gServer,
		Text:    "The network interfaces that are told to clients for further connections (multichannel) and, with `bind interfaces only`, those that the server listens on: names, which may have `*` and `?`, addresses, or addresses with a mask for the interface that has one in that network. By default all, loopback being told only to clients that come by it.",
		Differs: "What Samba takes behind an address (`;speed=`, `capability=`, `if_index=`) is ignored: the kernel knows better."},
	{Name: "bind interfaces only", Kind: Bool, Default: "no", Group: gServer,
		Text: "Listen only on the addresses of `interfaces`, and on loopback if it is among them; RDMA devices likewise."},
	{Name: "smb ports", Kind: List, Default: "445", Group: gServer,
		Text:    "TCP ports.",
		Differs: "139 is left out, as there is no NetBIOS session service; the default of Samba has it."},
	{Name: "server min protocol", Synonyms: []string{"min protocol"}, Kind: Enum, Words: minDialectWords, Default: "smb2_02", Group: gServer,
		Text:    "The lowest dialect that is offered. `SMB2` is SMB2_10, `SMB3` is SMB3_11. Connections of SMB Direct use 3.0 at least.",
		Differs: "`NT1` and what is older are taken for SMB2_02, with a warning: there is no SMB1."},
	{Name: "server max protocol", Synonyms: []string{"max protocol", "protocol"}, Kind: Enum, Words: maxDialectWords, Default: "smb3_11", Group: gServer,
		Text: "The highest dialect that is offered."},
	{Name: "server multi channel support", Kind: Bool, Default: "yes", Group: gServer,
		Text: "Tell clients the interfaces of the server, so that a session uses several connections and SMB Direct. Without it a client finds SMB Direct only where it is told to look."},
	{Name: "log level", Synonyms: []string{"debuglevel"}, Default: "1", Group: gServer,
		Text:    "How much is logged: 0 is errors and warnings, 1 and 2 what an operator acts on, 3 and more everything. `--log-level` wins.",
		Differs: "Words for classes (`3 auth:10`) are ignored but for the number. The log goes to standard error, where a service manager takes it."},

	// Users.
	{Name: "passdb backend", Kind: String, Default: "smbpasswd", Group: gUsers,
		Text:    "`smbpasswd` or `smbpasswd:FILE`: where users and the hashes of their passwords are. `smbd-rdma passwd` changes the file.",
		Differs: "There is no `tdbsam` (Samba's default) nor `ldapsam`: `pdbedit -L -w` prints such a file of what Samba has."},
	{Name: "smb passwd file", Default: DefaultPasswdFile, Group: gUsers,
		Text: "The file of `passdb backend = smbpasswd`."},
	{Name: "username map", Default: "", Group: gUsers,
		Text: "A file of lines `UNIXNAME = CLIENTNAME ...`: who logs on as one of the names on the right is the UNIX user on the left. `@group` and `*` stand on the right for members of a UNIX group and for everybody; `!` before a line ends the search when it matches; names with spaces stand in quotation marks."},
	{Name: "guest account", Default: "nobody", Group: gUsers,
		Text: "The UNIX user as whom guests access files."},
	{Name: "map to guest", Kind: Enum, Words: []string{"never", "bad user", "bad password", "bad uid"}, Default: "never", Group: gUsers,
		Text:    "`bad user`: who logs on with a name that there is not, or with none, is a guest.",
		Differs: "`bad password` and `bad uid` are taken for `bad user`: a wrong password is always an error, as a mistyped one would go unnoticed."},

	// Access.
	{Name: "hosts allow", Synonyms: []string{"allow hosts"}, Share: true, Kind: List, Default: "", Group: gAccess,
		Text:    "Addresses that may connect: an address, a network (`10.0.0.0/8`, `10.0.0.0/255.0.0.0`, `fe80::/10`), the beginning of an IPv4 address (`10.0.`), `localhost` or `ALL`; `EXCEPT` takes what follows from what stands before. In [global] it holds for the server before anybody logs on, and for shares that have no list of their own.",
		Differs: "Names of hosts, domains and netgroups are errors: who answers for an address in the DNS would decide who may connect, and a name server that does not answer would hold up everybody who connects."},
	{Name: "hosts deny", Synonyms: []string{"deny hosts"}, Share: true, Kind: List, Default: "", Group: gAccess,
		Text:    "Addresses that may not connect, unless they are in `hosts allow`. This machine itself may unless it is denied by name.",
		Differs: "As with `hosts allow`."},
	{Name: "valid users", Share: true, Kind: List, Dynamic: inNames, Default: "", Group: gAccess,
		Text:    "Who may connect to the share: names without a domain, and groups of UNIX as `@group`, `+group` or `&group`. Empty is everybody who could log on. As in all lists of users, variables are replaced for who connects; a name with one that has no value is nobody's.",
		Differs: "There are no NIS netgroups: `&` and `@` mean what `+` does."},
	{Name: "invalid users", Share: true, Kind: List, Dynamic: inNames, Default: "", Group: gAccess,
		Text: "Who may not, whatever `valid users` says."},
	{Name: "read list", Share: true, Kind: List, Dynamic: inNames, Default: "", Group: gAccess, Text: "Who may only read."},
	{Name: "write list", Share: true, Kind: List, Dynamic: inNames, Default: "", Group: gAccess, Text: "Who may write, even if the share is `read only`. It wins over `read list`."},
	{Name: "admin users", Share: true, Kind: List, Dynamic: inNames, Default: "", Group: gAccess,
		Text:    "Who is not held back by rights to files: they act as the user the server runs as, root usually, and what they create is root's.",
		Differs: "On a server that does not run as root it changes nothing, as everybody acts as its user."},
	{Name: "read only", Inverse: []string{"writeable", "writable", "write ok"}, Share: true, Kind: Bool, Default: "yes", Group: gAccess, Text: "Refuse every change."},
	{Name: "guest ok", Synonyms: []string{"public"}, Share: true, Kind: Bool, Default: "no", Group: gAccess, Text: "Admit guests, if `map to guest` lets them in."},
	{Name: "guest only", Synonyms: []string{"only guest"}, Share: true, Kind: Bool, Default: "no", Group: gAccess, Text: "With `guest ok`: everybody accesses files as the guest account."},
	{Name: "force user", Share: true, Dynamic: inNames, Default: "", Group: gAccess, Text: "The UNIX user as whom everybody accesses files, once admitted under their own name. If a variable in it has no value nobody can connect."},
	{Name: "force group", Synonyms: []string{"group"}, Share: true, Dynamic: inNames, Default: "", Group: gAccess,
		Text:    "The primary UNIX group of everybody.",
		Differs: "`+group`, which only concerns members, is taken as `group` for members and ignored for others, as with Samba."},
	{Name: "available", Share: true, Kind: Bool, Default: "yes", Group: gAccess, Text: "`no` takes the share out of service."},
	{Name: "printable", Synonyms: []string{"print ok"}, Share: true, Kind: Bool, Default: "no", Group: gAccess, Text: "`yes` takes the share out of service, with a warning.", Differs: "There are no printers."},
	{Name: "browseable", Synonyms: []string{"browsable"}, Share: true, Kind: Bool, Default: "yes", Group: gAccess, Text: "Show the share in listings."},
	{Name: "access based share enum", Share: true, Kind: Bool, Default: "no", Group: gAccess, Text: "Show the share only to those who may connect to it."},

	// Signing and encryption.
	{Name: "server signing", Kind: Enum, Words: []string{"default", "auto|enabled|desired|if_required|yes|true|on|1", "mandatory|required|force|forced|enforced", "disabled|no|false|off|0"}, Default: "default", Group: gProtect,
		Text:    "`mandatory` refuses what is not signed; `auto` leaves it to the client; `default` is mandatory but for clients of SMB Direct that cannot sign what RDMA moves, which would have to do without RDMA.",
		Differs: "Samba's default is `auto`. `disabled` means `auto`, as signing is part of every dialect."},
	{Name: "server smb encrypt", Synonyms: []string{"smb encrypt"}, Share: true, Kind: Enum, Words: []string{"default", "if_required|auto|enabled|yes|true|on|1", "desired", "required|mandatory|force|forced|enforced", "off|disabled|no|false|0"}, Default: "default", Group: gProtect,
		Text: "In [global] for the server, in a share for that share. `required` refuses who cannot encrypt; `desired` encrypts everything of clients that can; `default` and `if_required`, which `yes` is, leave it to the client; `off` in [global] does not offer it. In a share it holds for who connects after a reload; where no share asked for encryption before, SMB Direct clients that cannot encrypt RDMA data get large messages for their data only when the server is started again, and are slower until then."},
	{Name: "server smb3 encryption algorithms", Kind: List, Default: "", Group: gProtect,
		Text: "Ciphers in the order of preference: AES-128-GCM, AES-128-CCM, AES-256-GCM, AES-256-CCM, which is the default, too. With a + or - before the first one, more or fewer than by default."},
	{Name: "server smb3 signing algorithms", Kind: List, Default: "", Group: gProtect,
		Text: "Likewise AES-128-GMAC, AES-128-CMAC, HMAC-SHA256."},

	// Files.
	{Name: "path", Synonyms: []string{"directory"}, Share: true, Dynamic: perClient, Default: "", Group: gFiles,
		Text:    "The directory that the share is. It cannot be left, by `..` or by a symbolic link. `%S`, `%h` and `%$(NAME)` of the environment are replaced when the file is read; `%U`, `%u`, `%g`, `%D`, `%I`, `%R` and `%H` when somebody connects. `memory:` is an empty share in memory that is gone with the server, or when the share is taken out of the file; `memory:64M` bounds what it may hold, and stays as it was made: another size takes a start. A directory that is not there is a warning; the share is refused until it is.",
		Differs: "A share without a path is an error (Samba: /tmp); that of [homes] is `%H`."},
	{Name: "comment", Share: true, Dynamic: inNames, Default: "", Group: gFiles, Text: "Shown by listings."},
	{Name: "volume", Share: true, Default: "", Group: gFiles, Text: "The label of the volume that clients see; by default the share's name."},
	{Name: "create mask", Synonyms: []string{"create mode"}, Share: true, Kind: Octal, Default: "0744", Group: gFiles, Text: "The permission bits that a new file may have. The umask of the server does not count."},
	{Name: "force create mode", Share: true, Kind: Octal, Default: "0000", Group: gFiles, Text: "Those that it gets in any case."},
	{Name: "directory mask", Synonyms: []string{"directory mode"}, Share: true, Kind: Octal, Default: "0755", Group: gFiles, Text: "The permission bits that a new directory may have."},
	{Name: "force directory mode", Share: true, Kind: Octal, Default: "0000", Group: gFiles, Text: "Those that it gets in any case."},
	{Name: "inherit owner", Share: true, Kind: Enum, Words: []string{"no|false|off|0", "windows and unix|yes|true|on|1", "unix only"}, Default: "no", Group: gFiles,
		Text: "What is created belongs to the owner of its directory.", Differs: "`unix only` is taken for `yes`."},
	{Name: "nt acl support", Share: true, Kind: Bool, Default: "yes", Group: gFiles, Text: "Store the security descriptors that clients set, in Samba's form. Without it they are made of the mode bits."},
	{Name: "acl allow execute always", Share: true, Kind: Bool, Default: "no", Group: gFiles, Text: "The right to execute is not checked where somebody asks for it by opening a file."},
	{Name: "acl flag inherited canonicalization", Share: true, Kind: Bool, Default: "yes", Group: gFiles, Text: "The mark that a descriptor was inherited automatically is kept only where the client asks for it, as Windows does; `no` stores it as it came."},
	{Name: "store dos attributes", Share: true, Kind: Bool, Default: "yes", Group: gFiles, Text: "Store hidden, system, archive and the creation time, in the extended attribute `user.DOSATTRIB` as Samba does."},
	{Name: "smb3 unix extensions", Share: true, Kind: Bool, Default: "yes", Group: gFiles,
		Text: "Clients of SMB 3.1.1 that ask for the POSIX extensions, as Linux does with the mount option `posix`, get them. `no` in [global] says so to all who connect; in a share its files are opened without them."},
	{Name: "ea support", Share: true, Kind: Bool, Default: "yes", Group: gFiles, Text: "Clients can read and write extended attributes. Those that are marked as needed to be known are named in one of the server's own, `user.smbd-rdma.need_ea`, which Samba, that does not keep the mark, shows as any other."},
	{Name: "vfs objects", Synonyms: []string{"vfs object"}, Share: true, Kind: List, Default: "", Group: gFiles,
		Text:    "There are no modules; what some of Samba's do is built in. `streams_xattr` is understood: where the file has a list without it there are no alternate data streams, and without a list there are. `acl_xattr` is always so; `shadow_copy2` shows snapshots. Others are named in a warning.",
		Differs: "Without a list Samba has no streams and keeps no Windows ACLs."},
	{Name: "shadow:snapdir", Share: true, Default: ".snapshots", Group: gFiles,
		Text:    "With `shadow_copy2` in `vfs objects`: the directory in which earlier states of the share are, for clients' \"previous versions\". An absolute path may be anywhere, another one is beneath the share.",
		Differs: "The states are directories named `@GMT-2026.11.23-07.30.00`, in UTC: `shadow:format` cannot say otherwise."},
	{Name: "hide unreadable", Share: true, Kind: Bool, Default: "no", Group: gFiles, Text: "Leave out of directory listings what the user may not read."},
	{Name: "continuous availability", Synonyms: []string{"smb3 share cap:CONTINUOUS AVAILABILITY"}, Share: true, Kind: Bool, Default: "no", Group: gCaching,
		Text:    "Announce the share as continuously available and grant persistent handles.",
		Differs: "Handles outlive their connections, but not the server."},

	// Names.
	{Name: "case sensitive", Synonyms: []string{"casesignames"}, Share: true, Kind: Enum, Words: autoWords, Default: "auto", Group: gNames, Text: "`yes` tells names apart by case. `auto` is `no`."},
	{Name: "hide dot files", Share: true, Kind: Bool, Default: "yes", Group: gNames, Text: "Names that begin with a dot have the attribute hidden."},
	{Name: "hide files", Share: true, Kind: Patterns, Default: "", Group: gNames, Text: "`/pattern/pattern/`: names that have the attribute hidden, with `*` and `?`."},
	{Name: "veto files", Share: true, Kind: Patterns, Default: "", Group: gNames,
		Text: "Names that do not exist for clients.", Differs: "A directory that holds such files cannot be removed (`delete veto files = no`)."},

	// Caching.
	{Name: "oplocks", Share: true, Kind: Bool, Default: "yes", Group: gCaching, Text: "Grant oplocks and leases."},
	{Name: "smb2 leases", Kind: Bool, Default: "yes", Group: gCaching, Text: "Grant leases."},
	{Name: "kernel oplocks", Share: true, Kind: Bool, Default: "no", Group: gCaching,
		Text: "Break oplocks when a local process opens the file. There are neither level II oplocks nor leases then."},
	{Name: "kernel share modes", Share: true, Kind: Bool, Default: "no", Group: gCaching,
		Text: "Opens that do not share reading or writing have the lock of flock(2)."},
	{Name: "posix locking", Share: true, Kind: Bool, Default: "yes", Group: gCaching,
		Text: "Byte-range locks are fcntl locks for local processes, too.", Differs: "Durable handles are granted all the same."},
	{Name: "durable handles", Share: true, Kind: Bool, Default: "yes", Group: gCaching,
		Text:    "Keep files open for clients that lost their connection.",
		Differs: "Samba grants none while `kernel oplocks`, `kernel share modes` or `posix locking` are set."},
	{Name: "smbd-rdma:durable time", Kind: Int, Min: 0, Max: 86400, Default: "300", Group: gCaching,
		Text: "The longest time in seconds for which a file is kept open for a client that lost its connection, whatever the client asks for; 0 keeps none, in no share."},
	{Name: "smbd-rdma:max durable files", Kind: Int, Min: 1, Max: 1 << 20, Default: "16384", Group: gCaching,
		Text: "How many files are kept open for such clients at most; those of one user are at most a quarter of that."},
	{Name: "change notify", Share: true, Kind: Bool, Default: "yes", Group: gCaching, Text: "Tell clients of changes in directories that they watch, made by clients or by local processes.",
		Differs: "It may stand in a share, too."},

	// Limits.
	{Name: "deadtime", Kind: Int, Min: 0, Max: 1 << 20, Default: "15", Group: gLimits,
		Text: "Minutes after which a connection without open files and without a word is closed; 0 is never.", Differs: "Samba's default is a week."},
	{Name: "max smbd processes", Kind: Int, Min: 0, Max: 65536, Default: "0", Group: gLimits,
		Text: "Connections at a time; 0 is the server's default of 1024.", Differs: "There are no processes: a connection is what Samba has one for."},
	{Name: "max open files", Kind: Int, Min: 1, Max: 1 << 20, Default: "16384", Group: gLimits, Text: "Open files of a session."},
	{Name: "smb2 max credits", Kind: Int, Min: 16, Max: 8192, Default: "8192", Group: gLimits, Text: "Requests that a client may send before it has an answer."},
	{Name: "smb2 max read", Kind: Size, Min: 65536, Max: 8 << 20, Default: "8388608", Group: gLimits, Text: "The longest READ, 64 KiB to 8 MiB."},
	{Name: "smb2 max write", Kind: Size, Min: 65536, Max: 8 << 20, Default: "8388608", Group: gLimits, Text: "The longest WRITE."},
	{Name: "smb2 max trans", Kind: Size, Min: 65536, Max: 8 << 20, Default: "8388608", Group: gLimits, Text: "The longest answer of other commands."},

	// Our own.
	{Name: "smbd-rdma:rdma", Kind: List, Default: "", Group: gOwn, Text: "Listeners of SMB Direct as `--rdma` has them: `iwarp://ADDR`, `verbs://ADDR` or `none`."},
	{Name: "smbd-rdma:http", Default: "", Group: gOwn, Text: "The address of `/metrics` and `/healthz`, as `--http`."},
	{Name: "smbd-rdma:control", Default: "", Group: gOwn, Text: "The control socket, as `--control`."},
	{Name: "smbd-rdma:audit", Default: "", Group: gOwn, Text: "The file of the audit log, as `--audit`."},
	{Name: "smbd-rdma:signing", Share: true, Kind: Enum, Words: []string{"offered|default", "required"}, Default: "offered", Group: gOwn, Text: "`required` refuses sessions to the share that neither sign nor encrypt."},

	// What is so anyway.
	{Name: "shadow:format", Share: true, Fixed: []string{"@GMT-%Y.%m.%d-%H.%M.%S"}, Group: gFixed, Text: "snapshots are named by their time in UTC"},
	{Name: "shadow:localtime", Share: true, Kind: Bool, Fixed: []string{"no"}, Group: gFixed, Text: "snapshots are named by their time in UTC"},
	{Name: "security", Kind: Enum, Words: []string{"user", "auto", "domain", "ads"}, Fixed: []string{"user", "auto"}, Group: gFixed, Text: "users are the server's own"},
	{Name: "server role", Kind: Enum, Words: []string{"standalone|standalone server", "auto", "member server|member", "classic primary domain controller|primary classic domain controller", "classic backup domain controller|backup classic domain controller", "active directory domain controller|domain controller|dc"}, Fixed: []string{"standalone", "auto"}, Group: gFixed, Text: "the server stands alone"},
	{Name: "encrypt passwords", Kind: Bool, Fixed: []string{"yes"}, Group: gFixed, Text: "passwords never travel in the clear"},
	{Name: "null passwords", Kind: Bool, Fixed: []string{"no"}, Group: gFixed, Text: "a user without a password cannot log on"},
	{Name: "ntlm auth", Kind: Enum, Words: []string{"ntlmv2-only|no|false|0|disabled", "ntlmv1-permitted|yes|true|1", "mschapv2-and-ntlmv2-only"}, Fixed: []string{"ntlmv2-only"}, Group: gFixed, Text: "NTLMv2 is the only authentication"},
	{Name: "lanman auth", Kind: Bool, Fixed: []string{"no"}, Group: gFixed, Text: "NTLMv2 is the only authentication"},
	{Name: "raw NTLMv2 auth", Kind: Bool, Fixed: []string{"no"}, Group: gFixed, Text: "NTLM without extended security is refused"},
	{Name: "obey pam restrictions", Kind: Bool, Fixed: []string{"no"}, Group: gFixed, Text: "PAM is not asked"},
	{Name: "unix password sync", Kind: Bool, Fixed: []string{"no"}, Group: gFixed, Text: "UNIX passwords are not touched"},
	{Name: "hostname lookups", Kind: Bool, Fixed: []string{"no"}, Group: gFixed, Text: "addresses are not looked up"},
	{Name: "disable netbios", Kind: Bool, Fixed: []string{"yes"}, Group: gFixed, Text: "there is no NetBIOS"},
	{Name: "smb1 unix extensions", Synonyms: []string{"unix extensions"}, Kind: Bool, Fixed: []string{"yes", "no"}, Group: gFixed, Text: "there is no SMB1"},
	{Name: "smb3 directory leases", Kind: Enum, Words: autoWords, Fixed: []string{"auto", "yes"}, Group: gFixed, Text: "leases of directories are granted where leases are"},
	{Name: "unicode", Kind: Bool, Fixed: []string{"yes"}, Group: gFixed, Text: "names are UTF-16 on the wire"},
	{Name: "unix charset", Fixed: []string{"utf-8", "utf8"}, Group: gFixed, Text: "names of files are UTF-8"},
	{Name: "kernel change notify", Kind: Bool, Fixed: []string{"yes", "no"}, Group: gFixed, Text: "changes by local processes are seen, and the server's own are not told twice"},
	{Name: "level2 oplocks", Share: true, Kind: Bool, Fixed: []string{"yes"}, Group: gFixed, Text: "oplocks have level II"},
	{Name: "fake oplocks", Share: true, Kind: Bool, Fixed: []string{"no"}, Group: gFixed, Text: "an oplock that is granted is kept"},
	{Name: "locking", Share: true, Kind: Bool, Fixed: []string{"yes"}, Group: gFixed, Text: "byte-range locks hold"},
	{Name: "blocking locks", Share: true, Kind: Bool, Fixed: []string{"yes"}, Group: gFixed, Text: "a lock may be waited for"},
	{Name: "strict locking", Share: true, Kind: Enum, Words: autoWords, Fixed: []string{"auto", "yes"}, Group: gFixed, Text: "locks stop every READ and WRITE that they exclude"},
	{Name: "smb2 disable lock sequence checking", Kind: Bool, Fixed: []string{"no"}, Group: gFixed, Text: "lock sequences are checked"},
	{Name: "strict sync", Share: true, Kind: Bool, Fixed: []string{"yes"}, Group: gFixed, Text: "FLUSH returns when data is on storage"},
	{Name: "sync always", Share: true, Kind: Bool, Fixed: []string{"no"}, Group: gFixed, Text: "WRITE waits for storage only where the client asks for it"},
	{Name: "strict allocate", Share: true, Kind: Bool, Fixed: []string{"no"}, Group: gFixed, Text: "files may be sparse"},
	{Name: "preserve case", Share: true, Kind: Bool, Fixed: []string{"yes"}, Group: gFixed, Text: "names keep their case"},
	{Name: "short preserve case", Share: true, Kind: Bool, Fixed: []string{"yes"}, Group: gFixed, Text: "names keep their case"},
	{Name: "mangled names", Share: true, Kind: Enum, Words: []string{"no|false|0|off", "illegal", "yes|true|1|on"}, Fixed: []string{"no", "illegal"}, Group: gFixed, Text: "there are no 8.3 names"},
	{Name: "map archive", Share: true, Kind: Bool, Fixed: []string{"no"}, Group: gFixed, Text: "attributes are not mapped to execute bits: `store dos attributes` has them"},
	{Name: "map hidden", Share: true, Kind: Bool, Fixed: []string{"no"}, Group: gFixed, Text: "attributes are not mapped to execute bits: `store dos attributes` has them"},
	{Name: "map system", Share: true, Kind: Bool, Fixed: []string{"no"}, Group: gFixed, Text: "attributes are not mapped to execute bits: `store dos attributes` has them"},
	{Name: "map readonly", Share: true, Kind: Enum, Words: []string{"no|false|0|off", "yes|true|1|on", "permissions|perm|perms"}, Fixed: []string{"no"}, Group: gFixed, Text: "the attribute read-only is stored, not a mode bit"},
	{Name: "follow symlinks", Share: true, Kind: Bool, Fixed: []string{"yes"}, Group: gFixed, Text: "symbolic links are followed within the share"},
	{Name: "wide links", Share: true, Kind: Bool, Fixed: []string{"no"}, Group: gFixed, Text: "no link leads out of a share"},
	{Name: "allow insecure wide links", Kind: Bool, Fixed: []string{"no"}, Group: gFixed, Text: "no link leads out of a share"},
	{Name: "acl check permissions", Share: true, Kind: Bool, Fixed: []string{"yes"}, Group: gFixed, Text: "the right to delete is checked when a file is opened"},
	{Name: "inherit acls", Share: true, Kind: Bool, Fixed: []string{"yes", "no"}, Group: gFixed, Text: "inheritable entries are always inherited, and default POSIX ACLs always heeded"},
	{Name: "dos filetimes", Share: true, Kind: Bool, Fixed: []string{"yes"}, Group: gFixed, Text: "who may write may set times"},
	{Name: "delete readonly", Share: true, Kind: Bool, Fixed: []string{"no"}, Group: gFixed, Text: "files with the attribute read-only cannot be deleted"},
	{Name: "delete veto files", Share: true, Kind: Bool, Fixed: []string{"no"}, Group: gFixed, Text: "a directory with vetoed files cannot be removed"},
	{Name: "fstype", Share: true, Fixed: []string{"ntfs"}, Group: gFixed, Text: "clients are told NTFS"},
	{Name: "nt pipe support", Kind: Bool, Fixed: []string{"yes"}, Group: gFixed, Text: "listings need pipes"},
	{Name: "host msdfs", Kind: Bool, Fixed: []string{"yes", "no"}, Group: gFixed, Text: "there is no DFS"},
	{Name: "msdfs root", Share: true, Kind: Bool, Fixed: []string{"no"}, Group: gFixed, Text: "there is no DFS"},
	{Name: "csc policy", Share: true, Kind: Enum, Words: []string{"manual", "documents", "programs", "disable"}, Fixed: []string{"manual"}, Group: gFixed, Text: "caching offline is the client's choice"},
	{Name: "domain logons", Kind: Bool, Fixed: []string{"no"}, Group: gFixed, Text: "the server is no domain controller"},
	{Name: "clustering", Kind: Bool, Fixed: []string{"no"}, Group: gFixed, Text: "there are no clusters"},
	{Name: "registry shares", Kind: Bool, Fixed: []string{"no"}, Group: gFixed, Text: "there is no registry"},
	{Name: "config backend", Kind: Enum, Words: []string{"file", "registry"}, Fixed: []string{"file"}, Group: gFixed, Text: "there is no registry"},
}

// DefaultPasswdFile is where users are if the configuration does not say.
const DefaultPasswdFile = "/etc/smbd-rdma/smbpasswd"

// entry is what a name means.
type entry struct {
	key     *Key
	inverse bool
}

var table = sync.OnceValue(func() map[string]entry {
	m := make(map[string]entry, 2*len(Keys))
	for i := range Keys {
		k := &Keys[i]
		m[fold(k.Name)] = entry{k, false}
		for _, s := range k.Synonyms {
			m[fold(s)] = entry{k, false}
		}
		for _, s := range k.Inverse {
			m[fold(s)] = entry{k, true}
		}
	}
	return m
})

// lookup finds the key of a name as it stands in a file.
func lookup(name string) (k *Key, inverse bool) {
	e := table()[fold(name)]
	return e.key, e.inverse
}
