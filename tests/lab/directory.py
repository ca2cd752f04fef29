"""Fills a freshly provisioned domain: accounts, delegation, rights, keytabs.

In:  etc/smb.conf of a provisioned Samba AD that is not running, a folder, a file.
Out: the keytabs in that folder, and SIDs and passwords by account name in that file (JSON).

One process works on the database directly: forty calls of samba-tool would take a minute.
Every step is what an administrator does with setspn, dsacls, ktpass and PowerShell on Windows.
"""

import json
import os
import secrets
import struct
import sys
import uuid

import ldb
from samba import enable_net_export_keytab
from samba.auth import system_session
from samba.dcerpc import security
from samba.ndr import ndr_pack
from samba.net import Net
from samba.param import LoadParm
from samba.samdb import SamDB
from samba.sd_utils import SDUtils

enable_net_export_keytab()

BASE = "DC=contoso,DC=test"
DNS = "contoso.test"
USER_CLASS = "bf967aba-0de6-11d0-a285-00aa003049e2"
GROUP_CLASS = "bf967a9c-0de6-11d0-a285-00aa003049e2"
MEMBER_ATTRIBUTE = "bf9679c0-0de6-11d0-a285-00aa003049e2"
AES_ONLY = 24  # msDS-SupportedEncryptionTypes: AES128 and AES256
NOT_DELEGATED = 0x100000
TRUSTED_TO_AUTH_FOR_DELEGATION = 0x1000000
ACCOUNT_DISABLED = 0x2
DONT_EXPIRE_PASSWORD = 0x10000

# account -> the service names it answers to
SERVICES = {
    "svc-gateway": ["HTTP/gateway." + DNS],
    "svc-intranet": ["HTTP/intranet." + DNS],
    "svc-timesheet": ["HTTP/timesheet." + DNS],
    # A backend whose keytab is out of date: it refuses every ticket.
    "svc-refusing": ["HTTP/refusing." + DNS],
    # A backend nobody delegated to: the KDC refuses.
    "svc-undelegated": ["HTTP/undelegated." + DNS],
    # A gateway account somebody forgot to allow "any authentication protocol".
    "svc-noprotocol": ["HTTP/noprotocol." + DNS],
    # Another service's account, to be found in the wrong keytab.
    "svc-wrong": [],
}
CLASSIC = ["HTTP/intranet." + DNS, "HTTP/refusing." + DNS]
STAFF = {
    "emma.employee": "Emma Employee",
    "erik.employee": "Erik Employee",
    "sandra.sensitive": "Sandra Sensitive",
    "admin.privileged": "Anna Privileged",
    "paula.protected": "Paula Protected",
    "dora.disabled": "Dora Disabled",
}
PARTNERS = {
    "petra.partner": ("Petra Partner", "Northwind", "Buyer"),
    "paolo.partner": ("Paolo Partner", "Northwind", "Engineer"),
    "pia.partner": ("Pia Partner", "Tailspin", "Auditor"),
    "pascal.past": ("Pascal Past", "Tailspin", "Auditor"),
}
PARTNER_PASSWORD = "Partner.Pass.2026"
STAFF_PASSWORD = "Staff.Pass.2026"


def export(configuration, path, principal):
    """In a process of its own: a second export in the same one ends in a talloc abort (4.22)."""
    if os.path.exists(path):
        os.unlink(path)
    child = os.fork()
    if child == 0:
        sys.stdout = sys.stderr
        directory = Directory(configuration)
        Net(None, directory.lp).export_keytab(
            samdb=directory.sam, keytab=path, principal=principal, only_current_keys=True
        )
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status != 0:
        sys.exit("no keytab for %s: exporter ended with %d" % (principal, status))
    os.chmod(path, 0o600)


class Directory:
    def __init__(self, configuration):
        self.configuration = configuration
        self.lp = LoadParm()
        self.lp.load(configuration)
        self.sam = SamDB(
            url=self.lp.private_path("sam.ldb"),
            session_info=system_session(),
            lp=self.lp,
        )
        self.passwords = {}

    def dn(self, account):
        return self.row(account).dn

    def row(self, account, attributes=("objectSid", "userAccountControl")):
        found = self.sam.search(
            BASE,
            scope=ldb.SCOPE_SUBTREE,
            expression="(sAMAccountName=%s)" % ldb.binary_encode(account),
            attrs=list(attributes),
        )
        return found[0]

    def sid(self, account):
        return self.sam.schema_format_value("objectSid", self.row(account)["objectSid"][0]).decode()

    def change(self, dn, kind, attribute, values):
        message = ldb.Message(dn)
        message[attribute] = ldb.MessageElement(values, kind, attribute)
        self.sam.modify(message)

    def flag(self, account, bits):
        row = self.row(account)
        now = int(row["userAccountControl"][0])
        self.change(row.dn, ldb.FLAG_MOD_REPLACE, "userAccountControl", str(now | bits))

    def new_password(self, account):
        self.passwords[account] = secrets.token_urlsafe(24) + "aA1."
        self.sam.setpassword(
            "(sAMAccountName=%s)" % account, self.passwords[account], False, account
        )

    def folders(self):
        # "Partner Companies" is for tests: nothing of theirs is seen by who looks at the demo's partners.
        for name in [
            "Guests", "Disabled Guests", "Guest Groups", "Staff", "Partners", "Partner Companies", "Services",
        ]:
            self.sam.create_ou("OU=%s,%s" % (name, BASE))

    def staff(self):
        for account, name in STAFF.items():
            given, family = name.split(" ")
            self.sam.newuser(
                account, STAFF_PASSWORD, userou="OU=Staff", givenname=given, surname=family,
                mailaddress=account + "@" + DNS,
            )
            self.flag(account, DONT_EXPIRE_PASSWORD)
            self.passwords[account] = STAFF_PASSWORD
        self.flag("sandra.sensitive", NOT_DELEGATED)
        self.flag("dora.disabled", ACCOUNT_DISABLED)
        self.sam.add_remove_group_members("Domain Admins", ["admin.privileged"])
        # Windows sets this within the hour (SDProp); Samba leaves it to the administrator.
        self.change(self.dn("admin.privileged"), ldb.FLAG_MOD_REPLACE, "adminCount", "1")
        self.sam.add_remove_group_members("Protected Users", ["paula.protected"])

    def partners(self):
        """People of partner companies who have had an account here all along."""
        for account, (name, company, title) in PARTNERS.items():
            given, family = name.split(" ")
            self.sam.newuser(
                account, PARTNER_PASSWORD, userou="OU=Partners", givenname=given, surname=family,
                mailaddress="%s@%s.example" % (account, company.lower()),
                company=company, jobtitle=title,
            )
            self.flag(account, DONT_EXPIRE_PASSWORD)
            self.passwords[account] = PARTNER_PASSWORD
        self.flag("pascal.past", ACCOUNT_DISABLED)

    def groups(self):
        for name in ["Intranet Users", "Timesheet Users"]:
            self.sam.newgroup(name, groupou="OU=Guest Groups")

    def services(self):
        for account, names in SERVICES.items():
            self.sam.newuser(
                account, secrets.token_urlsafe(24) + "aA1.", userou="OU=Services", useusernameascn=True
            )
            self.flag(account, DONT_EXPIRE_PASSWORD)
            dn = self.dn(account)
            self.change(dn, ldb.FLAG_MOD_REPLACE, "msDS-SupportedEncryptionTypes", str(AES_ONLY))
            if names:
                self.change(dn, ldb.FLAG_MOD_REPLACE, "servicePrincipalName", names)
            # Only a password set after the line above gets AES keys alone.
            self.new_password(account)

    def delegation(self):
        for account in ["svc-gateway", "svc-noprotocol"]:
            self.change(
                self.dn(account), ldb.FLAG_MOD_REPLACE, "msDS-AllowedToDelegateTo", CLASSIC
            )
        self.flag("svc-gateway", TRUSTED_TO_AUTH_FOR_DELEGATION)
        # Resource-based: the backend's own account says who may come for others.
        allowed = security.descriptor.from_sddl(
            "O:BAD:(A;;CCDCLCSWRPWPDTLOCRSDRCWDWO;;;%s)" % self.sid("svc-gateway"),
            security.dom_sid(self.sam.get_domain_sid()),
        )
        self.change(
            self.dn("svc-timesheet"),
            ldb.FLAG_MOD_REPLACE,
            "msDS-AllowedToActOnBehalfOfOtherIdentity",
            ndr_pack(allowed),
        )

    def attribute(self, name):
        """The attribute's schemaIDGUID, which an access control entry names it by."""
        found = self.sam.search(
            self.sam.get_schema_basedn(), scope=ldb.SCOPE_ONELEVEL,
            expression="(lDAPDisplayName=%s)" % name, attrs=["schemaIDGUID"],
        )
        return uuid.UUID(bytes_le=found[0]["schemaIDGUID"][0])

    def rights(self):
        """The least the gateway needs; it is in no administrative group."""
        sid = self.sid("svc-gateway")
        acls = SDUtils(self.sam)
        for folder in ["Guests", "Disabled Guests"]:
            acls.dacl_append_aces(
                "OU=%s,%s" % (folder, BASE),
                "(OA;CI;CCDC;%s;;%s)(OA;CIIO;GA;;%s;%s)" % (USER_CLASS, sid, USER_CLASS, sid),
            )
        # Of partners' accounts it may write the anchor, and nothing else.
        anchor = self.attribute("msDS-ExternalDirectoryObjectId")
        for folder in ["Partners", "Partner Companies"]:
            acls.dacl_append_aces(
                "OU=%s,%s" % (folder, BASE), "(OA;CIIO;WP;%s;%s;%s)" % (anchor, USER_CLASS, sid)
            )
        acls.dacl_append_aces(
            "OU=Guest Groups," + BASE,
            "(OA;CI;CC;%s;;%s)(OA;CIIO;RPWP;%s;%s;%s)"
            % (GROUP_CLASS, sid, MEMBER_ATTRIBUTE, GROUP_CLASS, sid),
        )

    def dc_names(self):
        """samba_spnupdate does this on a machine of its own; the lab runs without it."""
        row = self.row("DC1$", ["servicePrincipalName"])
        have = {str(name).lower() for name in row.get("servicePrincipalName", [])}
        wanted = ["ldap/dc1." + DNS, "ldap/dc1.%s/%s" % (DNS, DNS), "ldap/DC1"]
        for name in wanted:
            if name.lower() not in have:
                self.change(row.dn, ldb.FLAG_MOD_ADD, "servicePrincipalName", name)

    def keytabs(self, folder):
        def at(name):
            return os.path.join(folder, name)

        # Two good keytabs grow old here: the password changes after they were written.
        export(self.configuration, at("old-kvno.keytab"), "svc-gateway")
        export(self.configuration, at("refusing.keytab"), "HTTP/refusing." + DNS)
        self.new_password("svc-gateway")
        self.new_password("svc-refusing")
        export(self.configuration, at("gateway.keytab"), "svc-gateway")
        export(self.configuration, at("noprotocol.keytab"), "svc-noprotocol")
        export(self.configuration, at("wrong-account.keytab"), "svc-wrong")
        export(self.configuration, at("intranet.keytab"), "HTTP/intranet." + DNS)
        export(self.configuration, at("timesheet.keytab"), "HTTP/timesheet." + DNS)
        export(self.configuration, at("undelegated.keytab"), "HTTP/undelegated." + DNS)
        with open(at("empty.keytab"), "wb") as file:
            file.write(struct.pack(">H", 0x0502))


def main():
    configuration, keytabs, accounts_file = sys.argv[1:4]
    directory = Directory(configuration)
    directory.sam.transaction_start()
    directory.folders()
    directory.staff()
    directory.partners()
    directory.groups()
    directory.services()
    directory.delegation()
    directory.rights()
    directory.dc_names()
    directory.sam.transaction_commit()
    directory.keytabs(keytabs)
    accounts = list(STAFF) + list(PARTNERS) + list(SERVICES)
    with open(accounts_file, "w", encoding="utf-8") as file:
        json.dump(
            {
                "domain_sid": str(directory.sam.get_domain_sid()),
                "sids": {account: directory.sid(account) for account in accounts},
                "passwords": directory.passwords,
            },
            file,
            indent=2,
        )
    os.chmod(accounts_file, 0o600)


main()
