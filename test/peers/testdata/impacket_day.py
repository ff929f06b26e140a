"""A day of impacket's SMB client: files, directories, listings, locks between two
sessions, information, pipes. Arguments: port, dialect. Exits with a traceback if
something is not as it should be."""
import io
import os
import sys

from impacket import nt_errors, smb3structs as s3
from impacket.dcerpc.v5 import lsad, lsat, samr, srvs, transport, wkst
from impacket.smb3 import SessionError as SessionError3
from impacket.smbconnection import SessionError, SMBConnection

port, dialect = int(sys.argv[1]), int(sys.argv[2], 0)


def connect(user="tester", password="secret"):
    c = SMBConnection("127.0.0.1", "127.0.0.1", sess_port=port, preferredDialect=dialect)
    c.login(user, password)
    return c


def refused(status, call, *args, **kw):
    try:
        call(*args, **kw)
    except (SessionError, SessionError3) as e:
        code = e.getErrorCode() if hasattr(e, "getErrorCode") else e.get_error_code()
        assert code == status, "%s: %#x instead of %#x" % (call, code, status)
        return
    raise AssertionError("%s %s is not refused" % (call, args))


c = connect()
assert c.getDialect() == dialect, hex(c.getDialect())
refused(nt_errors.STATUS_LOGON_FAILURE, connect, password="wrong")

shares = [s["shi1_netname"][:-1].lower() for s in c.listShares()]
assert "data" in shares and "ipc$" in shares, shares

# files, in and out
data = os.urandom(3 * 1024 * 1024 + 17)
c.createDirectory("data", "work")
c.putFile("data", "work\\file.bin", io.BytesIO(data).read)
out = io.BytesIO()
c.getFile("data", "work\\file.bin", out.write)
assert out.getvalue() == data, "the file came back different"

# directories and listings
for i in range(300):
    c.createDirectory("data", "work\\d%03d" % i)
names = sorted(f.get_longname() for f in c.listPath("data", "work\\*"))
assert names == sorted([".", "..", "file.bin"] + ["d%03d" % i for i in range(300)]), names[:10]
assert [f.get_longname() for f in c.listPath("data", "work\\d29?")].__len__() == 10
entry = c.listPath("data", "work\\file.bin")[0]
assert entry.get_filesize() == len(data) and not entry.is_directory()
refused(nt_errors.STATUS_OBJECT_NAME_NOT_FOUND, c.getFile, "data", "work\\absent", out.write)
refused(nt_errors.STATUS_OBJECT_NAME_COLLISION, c.createDirectory, "data", "work\\d000")
refused(nt_errors.STATUS_DIRECTORY_NOT_EMPTY, c.deleteDirectory, "data", "work")
refused(nt_errors.STATUS_BAD_NETWORK_NAME, c.connectTree, "absent")
c.rename("data", "work\\file.bin", "work\\renamed.bin")
refused(nt_errors.STATUS_OBJECT_NAME_NOT_FOUND, c.deleteFile, "data", "work\\file.bin")
for i in range(300):
    c.deleteDirectory("data", "work\\d%03d" % i)

# what two sessions do to each other
d = connect()
tid, other = c.connectTree("data"), d.connectTree("data")
fid = c.openFile(tid, "work\\renamed.bin", desiredAccess=s3.FILE_READ_DATA | s3.FILE_WRITE_DATA, shareMode=s3.FILE_SHARE_READ)
refused(nt_errors.STATUS_SHARING_VIOLATION, d.openFile, other, "work\\renamed.bin", desiredAccess=s3.FILE_WRITE_DATA)
fid2 = d.openFile(other, "work\\renamed.bin", desiredAccess=s3.FILE_READ_DATA, shareMode=s3.FILE_SHARE_READ | s3.FILE_SHARE_WRITE)
c.writeFile(tid, fid, b"changed", offset=100)
assert d.readFile(other, fid2, offset=98, bytesToRead=11) == data[98:100] + b"changed" + data[107:109]
d.closeFile(other, fid2)
c.closeFile(tid, fid)
fid = c.openFile(tid, "work\\renamed.bin", desiredAccess=s3.FILE_READ_ATTRIBUTES)
info = c.queryInfo(tid, fid)
c.closeFile(tid, fid)
assert info["EndOfFile"] == len(data), info["EndOfFile"]
d.logoff()

# pipes
def rpc(pipe, interface):
    t = transport.SMBTransport("127.0.0.1", filename=pipe, smb_connection=c)
    t.set_dport(port)
    r = t.get_dce_rpc()
    r.connect()
    r.bind(interface)
    return r


r = rpc(r"\srvsvc", srvs.MSRPC_UUID_SRVS)
names = [s["shi1_netname"][:-1].lower() for s in srvs.hNetrShareEnum(r, 1)["InfoStruct"]["ShareInfo"]["Level1"]["Buffer"]]
assert "data" in names, names
assert srvs.hNetrServerGetInfo(r, 101)["InfoStruct"]["ServerInfo101"]["sv101_name"]
r.disconnect()
r = rpc(r"\wkssvc", wkst.MSRPC_UUID_WKST)
assert wkst.hNetrWkstaGetInfo(r, 100)["WkstaInfo"]["WkstaInfo100"]["wki100_computername"]
r.disconnect()
r = rpc(r"\lsarpc", lsat.MSRPC_UUID_LSAT)
policy = lsad.hLsarOpenPolicy2(r, 0x02000000 | lsat.POLICY_LOOKUP_NAMES)["PolicyHandle"]
domain = lsad.hLsarQueryInformationPolicy(r, policy, lsad.POLICY_INFORMATION_CLASS.PolicyAccountDomainInformation)
sid = domain["PolicyInformation"]["PolicyAccountDomainInfo"]["DomainSid"].formatCanonical()
assert sid.startswith("S-1-5-21-"), sid
found = lsat.hLsarLookupNames(r, policy, ("tester",))
rid = found["TranslatedSids"]["Sids"][0]["RelativeId"]
back = lsat.hLsarLookupSids(r, policy, ("%s-%d" % (sid, rid),))
assert back["TranslatedNames"]["Names"][0]["Name"].lower() == "tester", back["TranslatedNames"]["Names"][0]["Name"]
r.disconnect()
r = rpc(r"\samr", samr.MSRPC_UUID_SAMR)
server = samr.hSamrConnect(r)["ServerHandle"]
domains = [x["Name"] for x in samr.hSamrEnumerateDomainsInSamServer(r, server)["Buffer"]["Buffer"]]
assert "Builtin" in domains and len(domains) == 2, domains
r.disconnect()

c.deleteFile("data", "work\\renamed.bin")
c.deleteDirectory("data", "work")
assert [f.get_longname() for f in c.listPath("data", "*")] == [".", ".."]
c.logoff()
