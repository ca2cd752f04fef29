//! Dutch, with "u".

use super::Sentence;
use super::Words;
use super::say;
use crate::pages::topic::Topic;

pub(super) const WORDS: Words = Words {
    what_next: "Wat u kunt doen",
    who_helps: "Wie kan helpen",
    ask_owner: "Verantwoordelijk voor deze toepassing:",
    ask_support: "Ondersteuning:",
    owner_unnamed: "De persoon die u heeft uitgenodigd of u de link heeft gestuurd, kan toegang voor u regelen.",
    support_unnamed: "De helpdesk van de organisatie die deze toepassing aanbiedt.",
    details: "Gegevens voor de ondersteuning",
    quote: "Geef deze gegevens alstublieft door. Daarmee is de oorzaak snel te vinden.",
    code: "Foutcode",
    request: "Verzoek",
    time: "Tijdstip",
    application: "Toepassing",
    sign_in: "Opnieuw aanmelden",
    retry: "Opnieuw proberen",
    waiting: say(
        "We maken uw toegang in orde",
        "Dit is uw eerste bezoek. Uw account wordt nu aangemaakt. Dat duurt enkele seconden.",
        "U hoeft niets te doen. Deze pagina gaat vanzelf verder.",
    ),
    waiting_status: "Een ogenblik geduld. Uw toegang wordt in orde gemaakt.",
    go_on: "Nu doorgaan",
    signed_out: say(
        "U bent afgemeld",
        "U bent afgemeld bij alle toepassingen die u hier heeft geopend.",
        "Als anderen dit apparaat ook gebruiken, sluit dan ook alle browservensters.",
    ),
    confirm: say(
        "Wilt u zich afmelden?",
        "U wordt afgemeld bij alle toepassingen die u hier heeft geopend.",
        "Sla eerst uw werk op. Wat niet is opgeslagen, kan verloren gaan.",
    ),
    sign_out: "Afmelden",
    another_account: "Afmelden en een ander account gebruiken",
    cancel: "Terug",
    way: say(
        "Een ogenblik geduld",
        "U wordt doorgestuurd.",
        "Als er niets gebeurt, gebruik dan de knop hieronder.",
    ),
    form_not_sent: say(
        "Uw formulier is niet verzonden",
        "Uw aanmelding was verlopen voordat het formulier werd verzonden. Er is niets opgeslagen of gewijzigd.",
        "Uw gegevens staan nog in dit tabblad. Meld u met de knop hieronder aan in een nieuw tabblad. Kom daarna hier terug en laad de pagina opnieuw: uw browser vraagt of het formulier nog een keer moet worden verzonden. Bevestig dat.",
    ),
};

#[expect(clippy::too_many_lines, reason = "a flat table, one entry a topic")]
pub(super) const fn sentence(topic: Topic) -> Sentence {
    match topic {
        Topic::RequestUnclear => say(
            "Dit verzoek was niet te begrijpen",
            "Het adres of de gegevens die uw browser heeft verzonden, zijn op meer dan één manier te lezen. Daarom zijn ze niet doorgegeven.",
            "Controleer het adres op typefouten of begin opnieuw met de link die u heeft ontvangen.",
        ),
        Topic::NothingHere => say(
            "Op dit adres is niets te vinden",
            "Op dit adres is geen toepassing of pagina beschikbaar.",
            "Controleer het adres op typefouten of begin opnieuw met de link die u heeft ontvangen.",
        ),
        Topic::WrongHost => say(
            "Dit adres is via een verkeerde weg bereikt",
            "Uw browser vroeg dit adres op via een verbinding die bij een ander adres hoort.",
            "Probeer het opnieuw. Gebeurt het nog een keer, sluit dan uw browser en open het adres opnieuw.",
        ),
        Topic::NotPossible => say(
            "Dat is hier niet mogelijk",
            "De toepassing accepteert dit soort verzoeken niet.",
            "Ga terug en kies in de toepassing een andere manier.",
        ),
        Topic::TooLarge => say(
            "Dat is te groot",
            "U heeft meer gegevens verzonden dan deze toepassing in één keer accepteert.",
            "Kies een kleiner bestand of splits het in delen.",
        ),
        Topic::CookiesInTheWay => say(
            "Opgeslagen cookies zitten in de weg",
            "Uw browser heeft meer of andere cookies verzonden dan deze website kan gebruiken.",
            "Verwijder de cookies van deze website in de instellingen van uw browser en open het adres opnieuw.",
        ),
        Topic::Incomplete => say(
            "Uw verzoek is niet volledig aangekomen",
            "De verbinding werd verbroken voordat alles was verzonden.",
            "Controleer uw internetverbinding en probeer het opnieuw.",
        ),
        Topic::SignInNeeded => say(
            "Meld u alstublieft aan",
            "Deze toepassing is alleen beschikbaar voor wie is aangemeld.",
            "Meld u aan. Daarna komt u bij de toepassing.",
        ),
        Topic::SignInOver => say(
            "Uw aanmelding is verlopen",
            "Voor uw veiligheid is een aanmelding maar beperkte tijd geldig.",
            "Meld u opnieuw aan. Daarna kunt u verdergaan.",
        ),
        Topic::FormOfAnother => say(
            "Dit formulier is van iemand anders",
            "Iemand anders had het wachtende formulier ingevuld. Het is daarom niet verzonden.",
            "Open de toepassing opnieuw en vul het formulier zelf in.",
        ),
        Topic::SignedOut => say(
            "U bent afgemeld",
            "U heeft zich afgemeld, of uw aanmelding is beëindigd.",
            "Meld u opnieuw aan als u verder wilt gaan.",
        ),
        Topic::SignInInterrupted => say(
            "Uw aanmelding kon niet worden voltooid",
            "Deze stap van de aanmelding was al gebruikt, duurde te lang of is in een andere browser begonnen.",
            "Begin opnieuw met aanmelden en rond dit in hetzelfde browservenster af. Gebruik geen bladwijzer van de aanmeldpagina.",
        ),
        Topic::SignInRefused => say(
            "Uw aanmelding is niet geaccepteerd",
            "De aanmelddienst heeft het account dat u gebruikte niet toegelaten.",
            "Meld u opnieuw aan, eventueel met een ander account. Gebeurt het nog een keer, vraag dan om hulp.",
        ),
        Topic::SignInLoop => say(
            "Uw browser onthoudt de aanmelding niet",
            "U heeft zich meerdere keren aangemeld, maar uw browser heeft het resultaat niet bewaard.",
            "Sta in de instellingen van uw browser cookies voor deze website toe, of gebruik een andere browser, en meld u opnieuw aan.",
        ),
        Topic::SignInServiceDown => say(
            "De aanmelddienst antwoordt niet",
            "Op dit moment kan niemand zich aanmelden. Waar u al bent aangemeld, kunt u verder werken.",
            "Probeer het over enkele minuten opnieuw.",
        ),
        Topic::SignInServiceUnfit => say(
            "Het aanmelden is niet goed ingesteld",
            "De aanmelddienst en deze website passen op dit moment niet bij elkaar. U heeft niets verkeerd gedaan.",
            "Vraag alstublieft om hulp. Opnieuw proberen helpt pas als de instelling is hersteld.",
        ),
        Topic::SignInUnconfirmed => say(
            "Uw aanmelding kon niet worden bevestigd",
            "De bevestiging van uw aanmelding kwam niet door onze controle. Daarom hebben we haar niet gebruikt.",
            "Meld u opnieuw aan. Gebeurt het nog een keer, vraag dan om hulp.",
        ),
        Topic::NotForPrograms => say(
            "Programma’s kunnen zich hier niet zo aanmelden",
            "Deze toepassing is alleen voor personen bedoeld, of staat geen toegang door programma’s toe.",
            "Open de toepassing in een browser. Beheert u een programma, neem dan contact op met de verantwoordelijken voor de toepassing.",
        ),
        Topic::PersonInactive => say(
            "Uw account is niet meer actief",
            "De organisatie waarmee u zich heeft aangemeld, of de organisatie waar u te gast bent, heeft uw toegang beëindigd of opgeschort.",
            "Heeft u de toegang nog nodig, vraag het dan aan de persoon die u heeft uitgenodigd.",
        ),
        Topic::Busy => say(
            "Het is op dit moment erg druk",
            "Uw verzoek kon nu niet worden behandeld.",
            "Wacht een ogenblik en probeer het opnieuw.",
        ),
        Topic::Maintenance => say(
            "Aan deze toepassing wordt gewerkt",
            "Ze is vanwege onderhoud een tijdje gesloten. Met uw toegang is niets mis.",
            "Kom later terug.",
        ),
        Topic::NoAccess => say(
            "U heeft geen toegang tot deze toepassing",
            "U bent aangemeld, maar deze toepassing is nog niet voor u opengesteld.",
            "Heeft u de toepassing voor uw werk nodig, vraag dan om toegang.",
        ),
        Topic::NoGuests => say(
            "Deze toepassing is niet toegankelijk voor gasten",
            "U bent aangemeld als gast van een andere organisatie. Deze toepassing is alleen voor leden van de organisatie die haar aanbiedt.",
            "Heeft u de toepassing voor uw werk nodig, vraag dan om toegang.",
        ),
        Topic::NotFromHere => say(
            "Niet vanaf deze plek",
            "Uw apparaat is verbonden via een netwerk dat deze toepassing niet accepteert.",
            "Maak verbinding via het netwerk of de VPN van de organisatie die haar aanbiedt en probeer het opnieuw.",
        ),
        Topic::TooFast => say(
            "Dat was te veel tegelijk",
            "Van u of uit uw netwerk kwamen meer verzoeken dan in deze tijd worden aangenomen.",
            "Wacht een ogenblik en probeer het opnieuw. Sluit tabbladen die u niet nodig hebt.",
        ),
        Topic::OtherOrganization => say(
            "Deze toepassing is niet toegankelijk voor uw organisatie",
            "U bent aangemeld, maar deze toepassing is niet beschikbaar voor mensen van uw organisatie.",
            "Heeft u de toepassing voor uw werk nodig, vraag dan om toegang.",
        ),
        Topic::AccessUnknown => say(
            "Uw toegang kon niet worden gecontroleerd",
            "Of u deze toepassing mag gebruiken, was zojuist niet na te gaan. Daarom is ze niet geopend.",
            "Probeer het over enkele minuten opnieuw.",
        ),
        Topic::ForeignOrigin => say(
            "Dit verzoek kwam van een andere website",
            "Een andere website probeerde hier uit uw naam iets te doen. Dat is tegengehouden om u te beschermen.",
            "Wilde u de toepassing zelf openen, gebruik dan de knop of typ het adres in uw browser.",
        ),
        Topic::AccountMissing => say(
            "Er is nog geen account voor u",
            "U bent aangemeld, maar voor deze toepassing is een account nodig dat nog niet voor u is aangemaakt.",
            "Vraag of er een account voor u kan worden aangemaakt.",
        ),
        Topic::AccountUnclear => say(
            "Uw account kon niet worden bepaald",
            "Meer dan één account zou bij u kunnen horen. Voor de zekerheid is er geen gebruikt.",
            "Vraag alstublieft om hulp. Alleen een beheerder kan dit herstellen.",
        ),
        Topic::AccountDisabled => say(
            "Uw account is uitgeschakeld",
            "Uw account voor deze toepassing is op dit moment uitgeschakeld.",
            "Heeft u het nog nodig, vraag dan of het weer kan worden ingeschakeld.",
        ),
        Topic::AccountLocked => say(
            "Uw account is vergrendeld",
            "Uw account is tijdelijk vergrendeld. Dat gebeurt vaak na meerdere mislukte aanmeldingen.",
            "Wacht een half uur en open de toepassing opnieuw, of vraag om hulp.",
        ),
        Topic::AccountExpired => say(
            "Uw account is verlopen",
            "De tijd waarvoor uw account was aangemaakt, is voorbij.",
            "Heeft u het nog nodig, vraag dan om verlenging.",
        ),
        Topic::AccountSpecial => say(
            "Dit account kan hier niet worden gebruikt",
            "Om veiligheidsredenen worden accounts van deze soort niet via deze website gebruikt.",
            "Meld u aan met uw gewone account, als u dat heeft, of vraag om hulp.",
        ),
        Topic::AccountNotMade => say(
            "Uw account kon niet in orde worden gemaakt",
            "Er ging iets mis toen uw account in orde werd gemaakt.",
            "Probeer het over enkele minuten opnieuw. Gebeurt het nog een keer, vraag dan om hulp.",
        ),
        Topic::DirectoryDown => say(
            "Uw account kan nu niet worden opgezocht",
            "De lijst met accounts antwoordt niet.",
            "Probeer het over enkele minuten opnieuw.",
        ),
        Topic::AccountNew => say(
            "Uw account is nog niet overal bekend",
            "Uw account is gevonden, maar nog niet alle systemen kennen het. Dat komt bij nieuwe accounts vaker voor.",
            "Probeer het over enkele minuten opnieuw. Is er na een uur niets veranderd, vraag dan om hulp.",
        ),
        Topic::SignOnDown => say(
            "Aanmelden bij de toepassing is niet beschikbaar",
            "U bent aangemeld, maar we kunnen u op dit moment niet bij de toepassing zelf aanmelden.",
            "Probeer het over enkele minuten opnieuw.",
        ),
        Topic::SignOnUnset => say(
            "De toepassing accepteert uw aanmelding nog niet",
            "U bent aangemeld en u mag de toepassing gebruiken, maar het aanmelden daarbij is niet volledig ingesteld.",
            "Vraag alstublieft om hulp. Opnieuw proberen helpt pas als de instelling is hersteld.",
        ),
        Topic::Mismatch => say(
            "We zijn gestopt om u te beschermen",
            "De toepassing zou iemand anders hebben gezien in plaats van u. Er is niets naartoe gestuurd.",
            "Meld u opnieuw aan. Gebeurt het nog een keer, vraag dan om hulp.",
        ),
        Topic::ApplicationDown => say(
            "De toepassing antwoordt niet",
            "U bent aangemeld, maar de toepassing zelf is op dit moment niet bereikbaar.",
            "Probeer het over enkele minuten opnieuw.",
        ),
        Topic::ApplicationSlow => say(
            "De toepassing doet er te lang over",
            "De toepassing antwoordde niet op tijd. Wat u vroeg, kan toch zijn uitgevoerd.",
            "Open de toepassing opnieuw en controleer het resultaat voordat u iets herhaalt.",
        ),
        Topic::Internal => say(
            "Er ging aan onze kant iets mis",
            "Er is een onverwachte fout opgetreden. U heeft niets verkeerd gedaan.",
            "Probeer het later opnieuw. Gebeurt het nog een keer, vraag dan om hulp.",
        ),
    }
}
