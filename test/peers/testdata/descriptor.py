"""Reads or sets the security descriptor of a file. Arguments: port, share, name, and
the descriptor's DACL in hexadecimal (a self-relative descriptor) to set it. Prints the
descriptor then, in hexadecimal; or "refused STATUS"."""
import sys

from impacket import smb3structs as s3
from impacket.smb3 import SessionError
from impacket.smbconnection import SMBConnection

port, share, name = int(sys.argv[1]), sys.argv[2], sys.argv[3]
c = SMBConnection("127.0.0.1", "127.0.0.1", sess_port=port, preferredDialect=0x0300)
c.login("tester", "secret")
tid = c.connectTree(share)
smb = c.getSMBServer()
READ_CONTROL, WRITE_DAC = 0x20000, 0x40000
try:
    fid = smb.create(tid, name, READ_CONTROL | (WRITE_DAC if len(sys.argv) > 4 else 0),
                     s3.FILE_SHARE_READ | s3.FILE_SHARE_WRITE, 0, s3.FILE_OPEN, 0)
    if len(sys.argv) > 4:
        smb.setInfo(tid, fid, bytes.fromhex(sys.argv[4]), infoType=s3.SMB2_0_INFO_SECURITY,
                    fileInfoClass=0, additionalInformation=s3.DACL_SECURITY_INFORMATION)
    print(bytes(smb.queryInfo(tid, fid, infoType=s3.SMB2_0_INFO_SECURITY, fileInfoClass=0,
                              additionalInformation=7)).hex())
except SessionError as e:
    print("refused %#x" % e.get_error_code())
