//! The people of the lab: one table, data only. The emulator makes tokens of it, the lab the
//! directory's accounts, and `demo.json` its list.

/// The tenant whose applications are published.
pub const TENANT: &str = "aaaaaaaa-0000-4000-8000-00000000000a";
/// The partner's tenant that most guests come from.
pub const HOME_TENANT: &str = "bbbbbbbb-0000-4000-8000-00000000000b";
/// Initial domain of the tenant: the right-hand side of a guest's user principal name.
pub const INITIAL_DOMAIN: &str = "contoso.onmicrosoft.com";
/// The group that admits to the intranet.
pub const INTRANET_GUESTS: &str = "99999999-0000-4000-8000-000000000001";
/// A group of partners that admits to nothing.
pub const PARTNERS: &str = "99999999-0000-4000-8000-000000000002";
/// A group of employees.
pub const EMPLOYEES: &str = "99999999-0000-4000-8000-000000000003";
/// The app roles of the demo's applications.
pub const ROLES: [&str; 3] = ["Intranet.User", "Timesheet.User", "Wiki.User"];
/// How many people there are for load.
pub const LOAD: usize = 200;

/// Who vouches for the person's password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The tenant itself.
    Own,
    /// Another Entra tenant.
    EntraTenant,
    /// A personal Microsoft account.
    MicrosoftAccount,
    /// A one-time passcode by e-mail.
    OneTimePasscode,
}

/// One person as the tenant knows them.
#[derive(Clone, Debug)]
pub struct Person {
    /// What the button of the sign-in page sends.
    pub login: String,
    /// One line for the sign-in page and for `demo.json`.
    pub what: String,
    /// Object id in the tenant.
    pub oid: String,
    /// Display name.
    pub name: String,
    /// E-mail address; the login for nearly everybody.
    pub mail: String,
    /// Whether tokens have `email`, `upn` and `preferred_username`.
    pub named_in_tokens: bool,
    /// Who vouches for them.
    pub origin: Origin,
    /// `userType` Guest (`acct` 1).
    pub guest: bool,
    /// `accountEnabled`.
    pub enabled: bool,
    /// App roles assigned.
    pub roles: Vec<String>,
    /// Groups, transitively.
    pub groups: Vec<String>,
    /// sAMAccountName, for those synchronized from the directory.
    pub onprem_account: Option<String>,
    /// Invited, and has not come yet.
    pub pending: bool,
    /// Deleted in the cloud, restorable.
    pub deleted: bool,
    /// One of the many for load: listed only when asked for.
    pub load: bool,
}

impl Person {
    /// User principal name in the tenant.
    pub fn upn(&self) -> String {
        match self.origin {
            Origin::Own => self.mail.clone(),
            Origin::EntraTenant | Origin::MicrosoftAccount | Origin::OneTimePasscode => {
                format!("{}#EXT#@{INITIAL_DOMAIN}", self.mail.replace('@', "_"))
            }
        }
    }
}

struct Row {
    login: &'static str,
    what: &'static str,
    name: &'static str,
    mail: Option<&'static str>,
    origin: Origin,
    guest: bool,
    roles: &'static [&'static str],
    groups: &'static [&'static str],
    onprem_account: Option<&'static str>,
}

/// A guest of the partner with every role: what most rows vary.
const GUEST: Row = Row {
    login: "",
    what: "",
    name: "",
    mail: None,
    origin: Origin::EntraTenant,
    guest: true,
    roles: &ROLES,
    groups: &[],
    onprem_account: None,
};

/// An employee synchronized from the directory.
const EMPLOYEE: Row = Row {
    origin: Origin::Own,
    guest: false,
    groups: &[EMPLOYEES],
    ..GUEST
};

// The position, counted from 1, is the end of the object id: add at the end only.
const TABLE: [Row; 19] = [
    Row {
        login: "jane@fabrikam.example",
        what: "Guest from another Entra tenant",
        name: "Jane Doe",
        groups: &[PARTNERS],
        ..GUEST
    },
    Row {
        login: "marco@outlook.example",
        what: "Guest with a personal Microsoft account",
        name: "Marco Rossi",
        origin: Origin::MicrosoftAccount,
        ..GUEST
    },
    Row {
        login: "olga@otp.example",
        what: "Guest who signs in with a one-time passcode",
        name: "Olga Petrova",
        origin: Origin::OneTimePasscode,
        ..GUEST
    },
    Row {
        login: NONAME,
        what: "Guest whose token has no email, upn or preferred_username",
        name: "Nora Noname",
        ..GUEST
    },
    Row {
        login: OVERAGE,
        what: "Guest in 250 groups: too many for a token, one of them admits to the intranet",
        name: "Oscar Overage",
        roles: &[],
        ..GUEST
    },
    Row {
        login: "unassigned@fabrikam.example",
        what: "Guest without any role or group",
        name: "Una Unassigned",
        roles: &[],
        ..GUEST
    },
    Row {
        login: DISABLED,
        what: "Guest disabled in the cloud: Entra refuses the sign-in",
        name: "Dieter Disabled",
        ..GUEST
    },
    Row {
        login: "member@fabrikam.example",
        what: "External member: from another tenant, but not a guest",
        name: "Mia Member",
        guest: false,
        ..GUEST
    },
    Row {
        login: "emma@contoso.example",
        what: "Employee synchronized from the directory",
        name: "Emma Employee",
        onprem_account: Some("emma.employee"),
        ..EMPLOYEE
    },
    Row {
        login: "clash1@fabrikam.example",
        what: "Guest whose account name would collide with clash2's",
        name: "Christopher Montgomery",
        mail: Some("christopher.montgomery.north@fabrikam.example"),
        ..GUEST
    },
    Row {
        login: "clash2@fabrikam.example",
        what: "Guest whose account name would collide with clash1's",
        name: "Christopher Montgomery",
        mail: Some("christopher.montgomery.south@fabrikam.example"),
        ..GUEST
    },
    Row {
        login: HOSTILE,
        what: "Guest whose display name needs escaping everywhere",
        name: "",
        ..GUEST
    },
    Row {
        login: "sandra@contoso.example",
        what: "Employee marked sensitive: cannot be delegated",
        name: "Sandra Sensitive",
        onprem_account: Some("sandra.sensitive"),
        ..EMPLOYEE
    },
    Row {
        login: "priv@contoso.example",
        what: "Privileged employee (Domain Admins)",
        name: "Adrian Privileged",
        onprem_account: Some("admin.privileged"),
        ..EMPLOYEE
    },
    Row {
        login: "paula@contoso.example",
        what: "Employee in Protected Users",
        name: "Paula Protected",
        onprem_account: Some("paula.protected"),
        ..EMPLOYEE
    },
    Row {
        login: "dora@contoso.example",
        what: "Employee disabled in the directory, not in the cloud",
        name: "Dora Disabled",
        onprem_account: Some("dora.disabled"),
        ..EMPLOYEE
    },
    Row {
        login: PENDING,
        what: "Guest who was invited and has not come yet",
        name: "Petra Pending",
        groups: &[PARTNERS],
        ..GUEST
    },
    Row {
        login: "converted@fabrikam.example",
        what: "Guest who was made a member",
        name: "Conrad Converted",
        guest: false,
        groups: &[PARTNERS],
        ..GUEST
    },
    Row {
        login: DELETED,
        what: "Guest deleted in the cloud three weeks ago",
        name: "Delia Deleted",
        groups: &[PARTNERS],
        ..GUEST
    },
];

const PENDING: &str = "pending@fabrikam.example";
const DELETED: &str = "deleted@fabrikam.example";

const NONAME: &str = "noname@fabrikam.example";
const OVERAGE: &str = "overage@fabrikam.example";
const DISABLED: &str = "disabled@fabrikam.example";
const HOSTILE: &str = "hostile@fabrikam.example";

/// Everybody: first those of the table, then the people for load.
pub fn everybody() -> Vec<Person> {
    let table = TABLE
        .iter()
        .zip(1..)
        .map(|(row, number)| person(row, number));
    table.chain((1..=LOAD).map(load_person)).collect()
}

fn person(row: &Row, number: usize) -> Person {
    let groups = if row.login == OVERAGE {
        overage_groups()
    } else {
        row.groups.iter().map(|&group| group.to_owned()).collect()
    };
    Person {
        login: row.login.to_owned(),
        what: row.what.to_owned(),
        oid: format!("11111111-0000-4000-8000-{number:012}"),
        name: if row.login == HOSTILE {
            hostile_name()
        } else {
            row.name.to_owned()
        },
        mail: row.mail.unwrap_or(row.login).to_owned(),
        named_in_tokens: row.login != NONAME,
        origin: row.origin,
        guest: row.guest,
        enabled: row.login != DISABLED,
        roles: row.roles.iter().map(|&role| role.to_owned()).collect(),
        groups,
        onprem_account: row.onprem_account.map(str::to_owned),
        pending: row.login == PENDING,
        deleted: row.login == DELETED,
        load: false,
    }
}

fn load_person(number: usize) -> Person {
    let login = format!("load{number:04}@partner.example");
    Person {
        what: "Guest for load".to_owned(),
        oid: format!("22222222-0000-4000-8000-{number:012}"),
        name: format!("Load {number:04}"),
        mail: login.clone(),
        login,
        load: true,
        ..person(&Row { ..GUEST }, 0)
    }
}

fn overage_groups() -> Vec<String> {
    let others = (1..250).map(|number| format!("99999999-0000-4000-8000-0000001{number:05}"));
    std::iter::once(INTRANET_GUESTS.to_owned())
        .chain(others)
        .collect()
}

/// 300 characters of what breaks LDAP, DN, HTML, header and log writing.
fn hostile_name() -> String {
    const START: &str = "Zoë O'Hostile \"quoted\" #1, +plus <b>bold</b>; back\\slash = \
                         <script>alert('x')</script> *)(uid=* ${jndi} %0d%0a {{7*7}} Злой Гость ";
    START
        .chars()
        .chain("Щедрый-Гость ".chars().cycle())
        .take(300)
        .collect()
}
