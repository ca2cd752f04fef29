//! German, with "Sie".

use super::Sentence;
use super::Words;
use super::say;
use crate::pages::topic::Topic;

pub(super) const WORDS: Words = Words {
    what_next: "Was Sie tun können",
    who_helps: "Wer helfen kann",
    ask_owner: "Zuständig für diese Anwendung:",
    ask_support: "Kontakt:",
    owner_unnamed: "Die Person, die Sie eingeladen oder Ihnen den Link geschickt hat, kann den Zugang für Sie veranlassen.",
    support_unnamed: "Der Helpdesk der Organisation, die diese Anwendung anbietet.",
    details: "Angaben für den Support",
    quote: "Bitte geben Sie diese Angaben weiter. Damit lässt sich die Ursache schnell finden.",
    code: "Kennung",
    request: "Anfrage",
    time: "Zeitpunkt",
    application: "Anwendung",
    sign_in: "Erneut anmelden",
    retry: "Erneut versuchen",
    waiting: say(
        "Wir richten Ihren Zugang ein",
        "Dies ist Ihr erster Besuch. Ihr Konto wird gerade angelegt. Das dauert einige Sekunden.",
        "Sie müssen nichts tun. Diese Seite geht von selbst weiter.",
    ),
    waiting_status: "Bitte warten Sie. Ihr Zugang wird eingerichtet.",
    go_on: "Jetzt fortfahren",
    signed_out: say(
        "Sie sind abgemeldet",
        "Sie wurden von allen Anwendungen abgemeldet, die Sie hier geöffnet haben.",
        "Falls andere Personen dieses Gerät benutzen, schließen Sie bitte auch alle Browserfenster.",
    ),
    confirm: say(
        "Möchten Sie sich abmelden?",
        "Sie werden von allen Anwendungen abgemeldet, die Sie hier geöffnet haben.",
        "Bitte speichern Sie vorher Ihre Arbeit. Nicht gespeicherte Eingaben können verloren gehen.",
    ),
    sign_out: "Abmelden",
    another_account: "Abmelden und ein anderes Konto verwenden",
    cancel: "Zurück",
    way: say(
        "Einen Moment bitte",
        "Sie werden weitergeleitet.",
        "Falls nichts geschieht, benutzen Sie die Schaltfläche unten.",
    ),
    form_not_sent: say(
        "Ihr Formular wurde nicht gesendet",
        "Ihre Anmeldung war abgelaufen, bevor das Formular gesendet wurde. Es wurde nichts gespeichert oder geändert.",
        "Ihre Eingaben sind noch in diesem Tab. Melden Sie sich mit der Schaltfläche unten in einem neuen Tab an. Kehren Sie dann hierher zurück und laden Sie die Seite neu: Ihr Browser fragt, ob das Formular noch einmal gesendet werden soll. Bestätigen Sie das.",
    ),
};

#[expect(clippy::too_many_lines, reason = "a flat table, one entry a topic")]
pub(super) const fn sentence(topic: Topic) -> Sentence {
    match topic {
        Topic::RequestUnclear => say(
            "Diese Anfrage war nicht eindeutig",
            "Die Adresse oder die Daten, die Ihr Browser gesendet hat, lassen sich auf mehrere Arten lesen. Sie wurden deshalb nicht weitergegeben.",
            "Prüfen Sie die Adresse auf Tippfehler oder beginnen Sie noch einmal mit dem Link, den Sie erhalten haben.",
        ),
        Topic::NothingHere => say(
            "Unter dieser Adresse gibt es nichts",
            "Unter dieser Adresse ist keine Anwendung oder Seite verfügbar.",
            "Prüfen Sie die Adresse auf Tippfehler oder beginnen Sie noch einmal mit dem Link, den Sie erhalten haben.",
        ),
        Topic::WrongHost => say(
            "Diese Adresse wurde auf falschem Weg erreicht",
            "Ihr Browser hat diese Adresse über eine Verbindung angefragt, die zu einer anderen Adresse gehört.",
            "Versuchen Sie es erneut. Falls es wieder geschieht, schließen Sie den Browser und öffnen Sie die Adresse neu.",
        ),
        Topic::NotPossible => say(
            "Das ist hier nicht möglich",
            "Die Anwendung nimmt diese Art von Anfrage nicht an.",
            "Gehen Sie zurück und wählen Sie in der Anwendung einen anderen Weg.",
        ),
        Topic::TooLarge => say(
            "Das ist zu groß",
            "Sie haben mehr Daten gesendet, als diese Anwendung auf einmal annimmt.",
            "Wählen Sie eine kleinere Datei oder teilen Sie sie auf.",
        ),
        Topic::CookiesInTheWay => say(
            "Gespeicherte Cookies sind im Weg",
            "Ihr Browser hat mehr oder andere Cookies gesendet, als diese Website verwenden kann.",
            "Löschen Sie in den Einstellungen Ihres Browsers die Cookies dieser Website und öffnen Sie die Adresse erneut.",
        ),
        Topic::Incomplete => say(
            "Ihre Anfrage kam nicht vollständig an",
            "Die Verbindung wurde unterbrochen, bevor alles gesendet war.",
            "Prüfen Sie Ihre Internetverbindung und versuchen Sie es erneut.",
        ),
        Topic::SignInNeeded => say(
            "Bitte melden Sie sich an",
            "Diese Anwendung steht nur angemeldeten Personen zur Verfügung.",
            "Melden Sie sich an. Danach gelangen Sie zur Anwendung.",
        ),
        Topic::SignInOver => say(
            "Ihre Anmeldung ist abgelaufen",
            "Zu Ihrer Sicherheit gilt eine Anmeldung nur für begrenzte Zeit.",
            "Melden Sie sich erneut an. Danach können Sie fortfahren.",
        ),
        Topic::FormOfAnother => say(
            "Dieses Formular gehört jemand anderem",
            "Das wartende Formular hatte eine andere Person ausgefüllt. Es wurde deshalb nicht gesendet.",
            "Öffnen Sie die Anwendung erneut und füllen Sie das Formular selbst aus.",
        ),
        Topic::SignedOut => say(
            "Sie sind abgemeldet",
            "Sie haben sich abgemeldet, oder Ihre Anmeldung wurde beendet.",
            "Melden Sie sich erneut an, wenn Sie fortfahren möchten.",
        ),
        Topic::SignInInterrupted => say(
            "Ihre Anmeldung wurde nicht abgeschlossen",
            "Dieser Schritt der Anmeldung wurde schon verwendet, hat zu lange gedauert oder wurde in einem anderen Browser begonnen.",
            "Beginnen Sie die Anmeldung neu und schließen Sie sie im selben Browserfenster ab. Bitte verwenden Sie kein Lesezeichen der Anmeldeseite.",
        ),
        Topic::SignInRefused => say(
            "Ihre Anmeldung wurde nicht angenommen",
            "Der Anmeldedienst hat das von Ihnen verwendete Konto nicht zugelassen.",
            "Melden Sie sich erneut an, gegebenenfalls mit einem anderen Konto. Falls es wieder geschieht, bitten Sie um Hilfe.",
        ),
        Topic::SignInLoop => say(
            "Ihr Browser behält die Anmeldung nicht",
            "Sie haben sich mehrmals angemeldet, aber Ihr Browser hat das Ergebnis nicht behalten.",
            "Erlauben Sie in den Einstellungen Ihres Browsers Cookies für diese Website oder verwenden Sie einen anderen Browser. Melden Sie sich dann erneut an.",
        ),
        Topic::SignInServiceDown => say(
            "Der Anmeldedienst antwortet nicht",
            "Zurzeit kann sich niemand anmelden. Wo Sie bereits angemeldet sind, können Sie weiterarbeiten.",
            "Bitte versuchen Sie es in einigen Minuten erneut.",
        ),
        Topic::SignInServiceUnfit => say(
            "Die Anmeldung ist nicht richtig eingerichtet",
            "Der Anmeldedienst und diese Website passen zurzeit nicht zusammen. Sie haben nichts falsch gemacht.",
            "Bitte wenden Sie sich an den Support. Ein neuer Versuch hilft erst, wenn die Einrichtung berichtigt ist.",
        ),
        Topic::SignInUnconfirmed => say(
            "Ihre Anmeldung ließ sich nicht bestätigen",
            "Die Bestätigung Ihrer Anmeldung hat unsere Prüfung nicht bestanden. Wir haben sie deshalb nicht verwendet.",
            "Melden Sie sich erneut an. Falls es wieder geschieht, bitten Sie um Hilfe.",
        ),
        Topic::NotForPrograms => say(
            "Programme können sich hier so nicht anmelden",
            "Diese Anwendung ist nur für Personen bestimmt oder lässt keinen Zugriff durch Programme zu.",
            "Öffnen Sie die Anwendung in einem Browser. Falls Sie ein Programm betreiben, fragen Sie bitte die Zuständigen der Anwendung.",
        ),
        Topic::PersonInactive => say(
            "Ihr Konto ist nicht mehr aktiv",
            "Die Organisation, mit der Sie sich angemeldet haben, oder die, bei der Sie zu Gast sind, hat Ihren Zugang beendet oder ausgesetzt.",
            "Falls Sie den Zugang weiterhin benötigen, fragen Sie bitte die Person, die Sie eingeladen hat.",
        ),
        Topic::Busy => say(
            "Zurzeit ist sehr viel los",
            "Ihre Anfrage konnte gerade nicht bearbeitet werden.",
            "Bitte warten Sie einen Augenblick und versuchen Sie es erneut.",
        ),
        Topic::Maintenance => say(
            "An dieser Anwendung wird gearbeitet",
            "Sie ist wegen Wartungsarbeiten eine Zeit lang geschlossen. Mit Ihrem Zugang ist alles in Ordnung.",
            "Bitte kommen Sie später wieder.",
        ),
        Topic::NoAccess => say(
            "Sie haben keinen Zugang zu dieser Anwendung",
            "Sie sind angemeldet, aber diese Anwendung ist für Sie noch nicht freigegeben.",
            "Falls Sie die Anwendung für Ihre Arbeit benötigen, bitten Sie um Freigabe.",
        ),
        Topic::NoGuests => say(
            "Diese Anwendung steht Gästen nicht offen",
            "Sie sind als Gast einer anderen Organisation angemeldet. Diese Anwendung ist nur für Angehörige der anbietenden Organisation bestimmt.",
            "Falls Sie die Anwendung für Ihre Arbeit benötigen, bitten Sie um Freigabe.",
        ),
        Topic::NotFromHere => say(
            "Von hier aus nicht möglich",
            "Ihr Gerät ist über ein Netz verbunden, aus dem diese Anwendung keinen Zugang erlaubt.",
            "Verbinden Sie sich über das Netz oder VPN der anbietenden Organisation und versuchen Sie es erneut.",
        ),
        Topic::TooFast => say(
            "Das war zu viel auf einmal",
            "Von Ihnen oder aus Ihrem Netz kamen mehr Anfragen, als in dieser Zeit angenommen werden.",
            "Bitte warten Sie einen Augenblick und versuchen Sie es erneut. Schließen Sie Registerkarten, die Sie nicht brauchen.",
        ),
        Topic::OtherOrganization => say(
            "Diese Anwendung steht Ihrer Organisation nicht offen",
            "Sie sind angemeldet, aber diese Anwendung ist für Angehörige Ihrer Organisation nicht verfügbar.",
            "Falls Sie die Anwendung für Ihre Arbeit benötigen, bitten Sie um Freigabe.",
        ),
        Topic::AccessUnknown => say(
            "Ihr Zugang konnte nicht geprüft werden",
            "Ob Sie diese Anwendung verwenden dürfen, ließ sich gerade nicht feststellen. Sie wurde deshalb nicht geöffnet.",
            "Bitte versuchen Sie es in einigen Minuten erneut.",
        ),
        Topic::ForeignOrigin => say(
            "Diese Anfrage kam von einer anderen Website",
            "Eine andere Website wollte hier in Ihrem Namen etwas ausführen. Zu Ihrem Schutz wurde das verhindert.",
            "Falls Sie die Anwendung selbst öffnen wollten, verwenden Sie die Schaltfläche oder geben Sie die Adresse im Browser ein.",
        ),
        Topic::AccountMissing => say(
            "Für Sie gibt es noch kein Konto",
            "Sie sind angemeldet, aber für diese Anwendung wird ein Konto benötigt, das für Sie noch nicht eingerichtet ist.",
            "Bitten Sie darum, dass ein Konto für Sie eingerichtet wird.",
        ),
        Topic::AccountUnclear => say(
            "Ihr Konto ließ sich nicht eindeutig bestimmen",
            "Mehrere Konten kämen für Sie in Frage. Zur Sicherheit wurde keines davon verwendet.",
            "Bitte wenden Sie sich an den Support. Das kann nur von der Administration berichtigt werden.",
        ),
        Topic::AccountDisabled => say(
            "Ihr Konto ist ausgeschaltet",
            "Ihr Konto für diese Anwendung ist zurzeit ausgeschaltet.",
            "Falls Sie es weiterhin benötigen, bitten Sie darum, dass es wieder eingeschaltet wird.",
        ),
        Topic::AccountLocked => say(
            "Ihr Konto ist gesperrt",
            "Ihr Konto ist vorübergehend gesperrt. Das geschieht oft nach mehreren misslungenen Anmeldungen.",
            "Warten Sie eine halbe Stunde und öffnen Sie die Anwendung erneut, oder bitten Sie um Hilfe.",
        ),
        Topic::AccountExpired => say(
            "Ihr Konto ist abgelaufen",
            "Die Zeit, für die Ihr Konto eingerichtet wurde, ist vorbei.",
            "Falls Sie es weiterhin benötigen, bitten Sie um eine Verlängerung.",
        ),
        Topic::AccountSpecial => say(
            "Dieses Konto kann hier nicht verwendet werden",
            "Aus Sicherheitsgründen werden Konten dieser Art über diese Website nicht verwendet.",
            "Melden Sie sich mit Ihrem gewöhnlichen Konto an, falls Sie eines haben, oder bitten Sie um Hilfe.",
        ),
        Topic::AccountNotMade => say(
            "Ihr Konto konnte nicht eingerichtet werden",
            "Beim Einrichten Ihres Kontos ist etwas misslungen.",
            "Bitte versuchen Sie es in einigen Minuten erneut. Falls es wieder geschieht, bitten Sie um Hilfe.",
        ),
        Topic::DirectoryDown => say(
            "Ihr Konto kann zurzeit nicht nachgeschlagen werden",
            "Das Verzeichnis der Konten antwortet nicht.",
            "Bitte versuchen Sie es in einigen Minuten erneut.",
        ),
        Topic::AccountNew => say(
            "Ihr Konto ist noch nicht überall bekannt",
            "Ihr Konto wurde gefunden, aber noch nicht alle Systeme kennen es. Bei neuen Konten kommt das vor.",
            "Bitte versuchen Sie es in einigen Minuten erneut. Hat sich nach einer Stunde nichts geändert, bitten Sie um Hilfe.",
        ),
        Topic::SignOnDown => say(
            "Die Anmeldung bei der Anwendung ist nicht verfügbar",
            "Sie sind angemeldet, aber wir können Sie zurzeit nicht bei der Anwendung selbst anmelden.",
            "Bitte versuchen Sie es in einigen Minuten erneut.",
        ),
        Topic::SignOnUnset => say(
            "Die Anwendung nimmt Ihre Anmeldung noch nicht an",
            "Sie sind angemeldet und dürfen die Anwendung verwenden, aber ihre Anmeldung ist nicht vollständig eingerichtet.",
            "Bitte wenden Sie sich an den Support. Ein neuer Versuch hilft erst, wenn die Einrichtung berichtigt ist.",
        ),
        Topic::Mismatch => say(
            "Wir haben zu Ihrem Schutz angehalten",
            "Die Anwendung hätte statt Ihnen eine andere Person gesehen. Es wurde nichts an sie gesendet.",
            "Melden Sie sich erneut an. Falls es wieder geschieht, bitten Sie um Hilfe.",
        ),
        Topic::ApplicationDown => say(
            "Die Anwendung antwortet nicht",
            "Sie sind angemeldet, aber die Anwendung selbst ist zurzeit nicht erreichbar.",
            "Bitte versuchen Sie es in einigen Minuten erneut.",
        ),
        Topic::ApplicationSlow => say(
            "Die Anwendung braucht zu lange",
            "Die Anwendung hat nicht rechtzeitig geantwortet. Ihr Auftrag könnte trotzdem ausgeführt worden sein.",
            "Öffnen Sie die Anwendung erneut und prüfen Sie das Ergebnis, bevor Sie etwas wiederholen.",
        ),
        Topic::Internal => say(
            "Bei uns ist etwas schiefgegangen",
            "Es ist ein unerwarteter Fehler aufgetreten. Sie haben nichts falsch gemacht.",
            "Bitte versuchen Sie es später erneut. Falls es wieder geschieht, bitten Sie um Hilfe.",
        ),
    }
}
