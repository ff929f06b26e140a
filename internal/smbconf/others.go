package smbconf

import (
	"strings"
	"sync"
)

// meaningless are Samba's parameters that concern nothing that this server has, by
// the reason: nobody misses anything.
var meaningless = []struct{ reason, names string }{
	{"there are no printers", `
addport command, addprinter command, cups connection timeout, cups encrypt, cups options, cups
server, default devmode, deleteprinter command, disable spoolss, enable spoolss, enumports command,
force printername, iprint server, load printers, lppause command, lpq cache time, lpq command,
lpresume command, lprm command, max print jobs, max reported print jobs, min print space, os2 driver
map, print command, print notify backchannel, printcap, printcap cache time, printcap name, printer,
printer name, printing, printjob username, queuepause command, queueresume command, show add printer
wizard, spoolss: architecture, spoolss: os_major, use client driver`},
	{"there is no NetBIOS", `
browse list, dgram port, dns proxy, domain master, enhanced browsing, lm announce, lm interval,
local master, max wins ttl, message command, min wins ttl, name cache timeout, name resolve order,
nbt client socket address, nbt port, nbtd:wins_prepend1Bto1Cqueries, nbtd:wins_randomize1Clist_mask,
nbtd:wins_wins_randomize1Clist, netbios aliases, netbios scope, nmbd bind explicit broadcast, nt
status support, os level, prefered master, preferred master, remote announce, remote browse sync,
socket address, time server, wins hook, wins proxy, wins server, wins support, winsdb:dbnosync,
winsdb:local_owner, wreplsrv:periodic_interval, wreplsrv:propagate name releases,
wreplsrv:scavenging_interval, wreplsrv:tombstone_extra_timeout, wreplsrv:tombstone_interval,
wreplsrv:tombstone_timeout, wreplsrv:verify_interval`},
	{"it is about domains, and users are the server's own", `
abort shutdown script, acl claims evaluation, ad dc functional level, add group script, add machine
script, add user script, add user to group script, additional dns hostnames, algorithmic rid base,
allow dns updates, allow nt4 crypto, allow trusted domains, apply group policies, auth event
notification, bind dns directory, binddns dir, certificate backdating compensation, client ldap sasl
wrapping, client use krb5 netlogon, create krb5 conf, dcerpc endpoint servers, dedicated keytab
file, delete group script, delete user from group script, delete user script, dns forwarder, dns
hostname, dns port, dns update command, dns zone scavenging, dns zone transfer clients allow, dns
zone transfer clients deny, dsdb event notification, dsdb group change notification, dsdb password
event notification, eventlog list, gpo update command, idmap backend, idmap cache time, idmap gid,
idmap negative cache time, idmap uid, include system krb5 conf, kdc always include pac, kdc default
domain supported enctypes, kdc enable fast, kdc force enable rc4 weak session keys, kdc name match
implicit dollar without canonicalization, kdc require canonicalization, kdc supported enctypes,
kerberos encryption types, kerberos method, kpasswd port, krb5 acceptor report canonical client
name, krb5 port, ldap admin dn, ldap connection timeout, ldap delete dn, ldap deref, ldap follow
referral, ldap group suffix, ldap idmap suffix, ldap machine suffix, ldap max anonymous request
size, ldap max authenticated request size, ldap max search request size, ldap page size, ldap passwd
sync, ldap password sync, ldap replication sleep, ldap server require strong auth, ldap ssl, ldap
suffix, ldap timeout, ldap user suffix, ldapsam:editposix, ldapsam:trusted, logon drive, logon home,
logon path, logon script, lsa over netlogon, machine password timeout, max ttl, mdns name, min
domain uid, mit kdc command, neutralize nt4 emulation, nsupdate command, nt hash store, ntp signd
socket directory, ntvfs handler, old password allowed period, passdb expand explicit, password hash
gpg key ids, password hash userPassword schemes, password server, realm, reject aes netlogon
servers, reject md5 clients, reject md5 servers, rename user script, require strong key, samba kcc
command, server reject aes schannel, server schannel, server schannel require seal, server services,
server support krb5 netlogon, set primary group script, shutdown script, spn update command, strong
certificate binding enforcement, svcctl list, sync machine password script, sync machine password to
keytab, template homedir, template shell, tls ca directories, tls cafile, tls certfile, tls crlfile,
tls dh params file, tls enabled, tls keyfile, tls priority, tls trust system cas, tls verify peer,
winbind cache time, winbind enum groups, winbind enum users, winbind expand groups, winbind gid,
winbind max clients, winbind max domain connections, winbind nested groups, winbind normalize names,
winbind nss info, winbind offline logon, winbind reconnect delay, winbind refresh tickets, winbind
request timeout, winbind rpc only, winbind scan trusted domains, winbind sealed pipes, winbind
separator, winbind uid, winbind use default domain, winbind use krb5 enterprise principals, winbind
varlink service, winbind:ignore domains, winbindd socket directory`},
	{"the log goes to standard error, with a time on each line", `
debug class, debug encryption, debug hires timestamp, debug pid, debug prefix timestamp, debug
syslog format, debug timestamp, debug uid, ldap debug level, ldap debug threshold, log file, log nt
token command, log writeable files on exit, logging, max log size, perfcount module, smbd profiling
level, smbd profiling share, syslog, syslog only, timestamp logs, utmp, utmp directory, winbind
debug traceid, wtmp directory`},
	{"it is about Samba's client programs", `
client NTLMv2 auth, client ipc max protocol, client ipc min protocol, client ipc signing, client
lanman auth, client max protocol, client min protocol, client netlogon ping protocol, client
plaintext auth, client protection, client schannel, client signing, client smb encrypt, client smb
encryption over quic, client smb transports, client smb3 encryption algorithms, client smb3 signing
algorithms, client use kerberos, client use spnego`},
	{"it names a place for files that only Samba has", `
cache directory, ctdbd socket, lock dir, lock directory, ncalrpc dir, pid directory, private dir,
private directory, state directory, usershare path`},
	{"it is about SMB1", `
async smb echo handler, defer sharing violations, dos charset, large readwrite, mangle prefix,
mangling char, mangling method, max mux, max xmit, read raw, reset on zero vc, write raw`},
	{"it concerns only how Samba is made", `
aio max threads, aio read size, aio write behind, aio write size, allow dcerpc auth level connect,
allow unsafe cluster upgrade, async dns timeout, cluster addresses, ctdb locktime warn threshold,
ctdb timeout, enable core files, keepalive, lock spin time, max stat cache size, min receivefile
size, multicast dns register, oplock break wait time, panic action, prefork backoff increment,
prefork children, prefork maximum backoff, preload modules, rpc big endian, rpc server dynamic port
range, rpc server port, rpc start on demand helpers, smbd async dosmode, smbd force process locks,
smbd getinfo ask sharemode, smbd max async dosmode, smbd max xattr size, smbd search ask sharemode,
socket options, stat cache, strict rename, use mmap, use sendfile, username map cache time,
usershare allow guests, usershare max shares, usershare owner only, usershare prefix allow list,
usershare prefix deny list, usershare template share, vfs mkdir use tmp name`},
}

// missing are Samba's other parameters: who sets one wants something that is not done.
const missing = `
acl group control, acl map full control, add share command, administrative share, afs share, afs
token lifetime, afs username map, allocation roundup size, auto services, automount fs types, block
size, change share command, check parent directory delete on close, check password script, default,
default case, default service, delete share command, dfree cache time, dfree command, directory
security mask, dmapi support, dont descend, dos filemode, dos filetime resolution,
elasticsearch:address, elasticsearch:default_fields, elasticsearch:force substring search,
elasticsearch:ignore unknown attribute, elasticsearch:ignore unknown type, elasticsearch:index,
elasticsearch:mappings, elasticsearch:max results, elasticsearch:port, elasticsearch:use tls, enable
asu support, enable privileges, exec, fake directory create times, force directory security mode,
force security mode, force unknown acl user, fss: prune stale, fss: sequence timeout, get quota
command, hide new files timeout, hide special files, hide unwriteable files, honor change notify
privilege, inherit permissions, init logon delay, init logon delayed hosts, magic output, magic
script, map acl inherit, max connections, max disk size, msdfs proxy, msdfs shuffle referrals, pam
password change, passwd chat, passwd chat debug, passwd chat timeout, passwd program, persistent
handles, postexec, preexec, preexec close, preload, restrict anonymous, root, root dir, root
directory, root postexec, root preexec, root preexec close, security mask, server addresses, server
smb encryption over quic, server smb transports, set quota command, share:fake_fscaps, smb2 disable
oplock break retry, spotlight, spotlight backend, username level, username map script, veto oplock
files, volume serial number, wsp property file`

// prefixes are the parameters of Samba's modules, by what stands before the colon.
var prefixes = map[string]string{
	"idmap config": "it is about domains, and users are the server's own",
	"xattr_tdb":    "extended attributes are stored with the files",
}

type otherKey struct {
	severity Severity
	reason   string
}

var others = sync.OnceValue(func() map[string]otherKey {
	m := map[string]otherKey{}
	each := func(names string, o otherKey) {
		for _, n := range strings.Split(names, ",") {
			m[fold(n)] = o
		}
	}
	each(missing, otherKey{Warning, "is not supported"})
	for _, g := range meaningless {
		each(g.names, otherKey{Note, "has no effect: " + g.reason})
	}
	return m
})

// unsupported says what becomes of a parameter that is not in the table.
func unsupported(name string) (reason string, sev Severity) {
	if o, ok := others()[fold(name)]; ok {
		return o.reason, o.severity
	}
	if p, _, ok := strings.Cut(name, ":"); ok {
		p = strings.ToLower(squeeze(p))
		for prefix, reason := range prefixes {
			if p == prefix || strings.HasPrefix(p, prefix+" ") {
				return "has no effect: " + reason, Note
			}
		}
		if p == "smbd-rdma" {
			return "is no parameter of this server", Warning
		}
		return "is not supported: there are no modules", Warning
	}
	return "is unknown, to Samba too", Warning
}
