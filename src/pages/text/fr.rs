//! French, with "vous".

use super::Sentence;
use super::Words;
use super::say;
use crate::pages::topic::Topic;

pub(super) const WORDS: Words = Words {
    what_next: "Ce que vous pouvez faire",
    who_helps: "Qui peut vous aider",
    ask_owner: "Responsable de cette application :",
    ask_support: "Assistance :",
    owner_unnamed: "La personne qui vous a invité ou qui vous a envoyé le lien peut demander l’accès pour vous.",
    support_unnamed: "Le service d’assistance de l’organisation qui propose cette application.",
    details: "Informations pour l’assistance",
    quote: "Merci de transmettre ces informations : elles permettent de trouver rapidement la cause.",
    code: "Code d’erreur",
    request: "Demande",
    time: "Date et heure",
    application: "Application concernée",
    sign_in: "Se connecter de nouveau",
    retry: "Réessayer",
    waiting: say(
        "Nous préparons votre accès",
        "C’est votre première visite. Votre compte est en cours de création, ce qui prend quelques secondes.",
        "Vous n’avez rien à faire. Cette page se poursuit d’elle-même.",
    ),
    waiting_status: "Veuillez patienter. Votre accès est en cours de préparation.",
    go_on: "Continuer maintenant",
    signed_out: say(
        "Vous êtes déconnecté",
        "Vous avez été déconnecté de toutes les applications que vous avez ouvertes ici.",
        "Si d’autres personnes utilisent cet appareil, veuillez également fermer toutes les fenêtres du navigateur.",
    ),
    confirm: say(
        "Voulez-vous vous déconnecter ?",
        "Vous serez déconnecté de toutes les applications que vous avez ouvertes ici.",
        "Veuillez d’abord enregistrer votre travail. Ce qui n’est pas enregistré peut être perdu.",
    ),
    sign_out: "Se déconnecter",
    another_account: "Se déconnecter et utiliser un autre compte",
    cancel: "Retour",
    way: say(
        "Un instant, s’il vous plaît",
        "Vous allez être redirigé.",
        "Si rien ne se passe, utilisez le bouton ci-dessous.",
    ),
    form_not_sent: say(
        "Votre formulaire n’a pas été envoyé",
        "Votre connexion avait expiré avant l’envoi du formulaire. Rien n’a été enregistré ni modifié.",
        "Vos saisies sont encore dans cet onglet. Connectez-vous dans un nouvel onglet avec le bouton ci-dessous. Revenez ensuite ici et rechargez la page : votre navigateur demande s’il faut renvoyer le formulaire. Acceptez.",
    ),
};

#[expect(clippy::too_many_lines, reason = "a flat table, one entry a topic")]
pub(super) const fn sentence(topic: Topic) -> Sentence {
    match topic {
        Topic::RequestUnclear => say(
            "Cette demande n’a pas pu être comprise",
            "L’adresse ou les données envoyées par votre navigateur peuvent être lues de plusieurs façons. Elles n’ont donc pas été transmises.",
            "Vérifiez l’adresse ou recommencez à partir du lien que vous avez reçu.",
        ),
        Topic::NothingHere => say(
            "Il n’y a rien à cette adresse",
            "Aucune application ni aucune page n’est disponible à cette adresse.",
            "Vérifiez l’adresse ou recommencez à partir du lien que vous avez reçu.",
        ),
        Topic::WrongHost => say(
            "Cette adresse a été atteinte par un mauvais chemin",
            "Votre navigateur a demandé cette adresse par une connexion qui appartient à une autre adresse.",
            "Réessayez. Si cela se reproduit, fermez votre navigateur et ouvrez de nouveau l’adresse.",
        ),
        Topic::NotPossible => say(
            "Cela n’est pas possible ici",
            "L’application n’accepte pas ce type de demande.",
            "Revenez en arrière et choisissez un autre moyen dans l’application.",
        ),
        Topic::TooLarge => say(
            "L’envoi est trop volumineux",
            "Vous avez envoyé plus de données que cette application n’en accepte en une fois.",
            "Choisissez un fichier plus petit ou divisez-le en plusieurs parties.",
        ),
        Topic::CookiesInTheWay => say(
            "Des cookies enregistrés posent problème",
            "Votre navigateur a envoyé plus de cookies, ou d’autres cookies, que ce site ne peut en utiliser.",
            "Supprimez les cookies de ce site dans les paramètres de votre navigateur, puis ouvrez de nouveau l’adresse.",
        ),
        Topic::Incomplete => say(
            "Votre demande n’est pas arrivée en entier",
            "La connexion a été interrompue avant la fin de l’envoi.",
            "Vérifiez votre connexion à Internet et réessayez.",
        ),
        Topic::SignInNeeded => say(
            "Veuillez vous connecter",
            "Cette application est réservée aux personnes connectées.",
            "Connectez-vous : vous serez ensuite dirigé vers l’application.",
        ),
        Topic::SignInOver => say(
            "Votre connexion a expiré",
            "Pour votre sécurité, une connexion n’est valable que pour une durée limitée.",
            "Connectez-vous de nouveau pour continuer.",
        ),
        Topic::FormOfAnother => say(
            "Ce formulaire appartient à quelqu’un d’autre",
            "Une autre personne avait rempli le formulaire en attente. Il n’a donc pas été envoyé.",
            "Ouvrez de nouveau l’application et remplissez le formulaire vous-même.",
        ),
        Topic::SignedOut => say(
            "Vous êtes déconnecté",
            "Vous vous êtes déconnecté, ou votre connexion a été fermée.",
            "Connectez-vous de nouveau si vous souhaitez continuer.",
        ),
        Topic::SignInInterrupted => say(
            "Votre connexion n’a pas pu aboutir",
            "Cette étape de la connexion a déjà été utilisée, a duré trop longtemps ou a été commencée dans un autre navigateur.",
            "Recommencez la connexion et terminez-la dans la même fenêtre. Merci de ne pas utiliser de favori vers la page de connexion.",
        ),
        Topic::SignInRefused => say(
            "Votre connexion n’a pas été acceptée",
            "Le service de connexion n’a pas autorisé le compte que vous avez utilisé.",
            "Connectez-vous de nouveau, au besoin avec un autre compte. Si cela se reproduit, demandez de l’aide.",
        ),
        Topic::SignInLoop => say(
            "Votre navigateur ne conserve pas la connexion",
            "Vous vous êtes connecté plusieurs fois, mais votre navigateur n’a pas conservé le résultat.",
            "Autorisez les cookies de ce site dans les paramètres de votre navigateur, ou utilisez un autre navigateur, puis connectez-vous de nouveau.",
        ),
        Topic::SignInServiceDown => say(
            "Le service de connexion ne répond pas",
            "En ce moment, personne ne peut se connecter. Là où vous êtes déjà connecté, vous pouvez continuer à travailler.",
            "Veuillez réessayer dans quelques minutes.",
        ),
        Topic::SignInServiceUnfit => say(
            "La connexion n’est pas configurée correctement",
            "Le service de connexion et ce site ne sont pas accordés en ce moment. Vous n’avez fait aucune erreur.",
            "Veuillez demander de l’aide. Réessayer ne changera rien tant que la configuration n’aura pas été corrigée.",
        ),
        Topic::SignInUnconfirmed => say(
            "Votre connexion n’a pas pu être confirmée",
            "La confirmation de votre connexion n’a pas satisfait à nos vérifications. Nous ne l’avons donc pas utilisée.",
            "Connectez-vous de nouveau. Si cela se reproduit, demandez de l’aide.",
        ),
        Topic::NotForPrograms => say(
            "Les programmes ne peuvent pas se connecter ainsi",
            "Cette application est réservée aux personnes, ou n’accepte pas l’accès par des programmes.",
            "Ouvrez l’application dans un navigateur. Si vous exploitez un programme, adressez-vous aux responsables de l’application.",
        ),
        Topic::PersonInactive => say(
            "Votre compte n’est plus actif",
            "L’organisation avec laquelle vous vous êtes connecté, ou celle qui vous accueille, a mis fin à votre accès ou l’a suspendu.",
            "Si vous avez encore besoin de cet accès, adressez-vous à la personne qui vous a invité.",
        ),
        Topic::Busy => say(
            "Le service est très sollicité en ce moment",
            "Votre demande n’a pas pu être traitée pour l’instant.",
            "Veuillez patienter un instant, puis réessayer.",
        ),
        Topic::Maintenance => say(
            "Cette application est en maintenance",
            "Elle est fermée pour un moment en raison de travaux. Votre accès n’est pas en cause.",
            "Veuillez revenir plus tard.",
        ),
        Topic::NoAccess => say(
            "Vous n’avez pas accès à cette application",
            "Vous êtes connecté, mais cette application ne vous a pas encore été ouverte.",
            "Si vous en avez besoin pour votre travail, demandez un accès.",
        ),
        Topic::NoGuests => say(
            "Cette application n’est pas ouverte aux invités",
            "Vous êtes connecté en tant qu’invité d’une autre organisation. Cette application est réservée aux membres de l’organisation qui la propose.",
            "Si vous en avez besoin pour votre travail, demandez un accès.",
        ),
        Topic::NotFromHere => say(
            "Pas depuis cet endroit",
            "Votre appareil est connecté depuis un réseau que cette application n’accepte pas.",
            "Connectez-vous par le réseau ou le VPN de l’organisation qui la propose, puis réessayez.",
        ),
        Topic::TooFast => say(
            "C’était trop à la fois",
            "Vous, ou votre réseau, avez envoyé plus de demandes qu’il n’en est accepté pendant ce temps.",
            "Veuillez patienter un instant, puis réessayer. Fermez les onglets dont vous n’avez pas besoin.",
        ),
        Topic::OtherOrganization => say(
            "Cette application n’est pas ouverte à votre organisation",
            "Vous êtes connecté, mais cette application n’est pas disponible pour les membres de votre organisation.",
            "Si vous en avez besoin pour votre travail, demandez un accès.",
        ),
        Topic::AccessUnknown => say(
            "Votre accès n’a pas pu être vérifié",
            "Nous n’avons pas pu vérifier si vous pouvez utiliser cette application. Nous ne l’avons donc pas ouverte.",
            "Veuillez réessayer dans quelques minutes.",
        ),
        Topic::ForeignOrigin => say(
            "Cette demande provient d’un autre site",
            "Un autre site a tenté d’agir ici en votre nom. Cette action a été arrêtée pour vous protéger.",
            "Si vous vouliez ouvrir l’application vous-même, utilisez le bouton ou saisissez l’adresse dans votre navigateur.",
        ),
        Topic::AccountMissing => say(
            "Vous n’avez pas encore de compte",
            "Vous êtes connecté, mais cette application nécessite un compte qui n’a pas encore été créé pour vous.",
            "Demandez qu’un compte soit créé pour vous.",
        ),
        Topic::AccountUnclear => say(
            "Votre compte n’a pas pu être déterminé",
            "Plusieurs comptes pourraient vous correspondre. Par sécurité, aucun n’a été utilisé.",
            "Veuillez demander de l’aide. Seul un administrateur peut corriger cela.",
        ),
        Topic::AccountDisabled => say(
            "Votre compte est désactivé",
            "Votre compte pour cette application est actuellement désactivé.",
            "Si vous en avez encore besoin, demandez qu’il soit réactivé.",
        ),
        Topic::AccountLocked => say(
            "Votre compte est verrouillé",
            "Votre compte est verrouillé pour le moment, souvent après plusieurs tentatives de connexion sans succès.",
            "Attendez une demi-heure et ouvrez de nouveau l’application, ou demandez de l’aide.",
        ),
        Topic::AccountExpired => say(
            "Votre compte a expiré",
            "La durée pour laquelle votre compte a été créé est écoulée.",
            "Si vous en avez encore besoin, demandez une prolongation.",
        ),
        Topic::AccountSpecial => say(
            "Ce compte ne peut pas être utilisé ici",
            "Pour des raisons de sécurité, les comptes de ce type ne sont pas utilisés à travers ce site.",
            "Connectez-vous avec votre compte ordinaire, si vous en avez un, ou demandez de l’aide.",
        ),
        Topic::AccountNotMade => say(
            "Votre compte n’a pas pu être préparé",
            "Un problème est survenu pendant la préparation de votre compte.",
            "Veuillez réessayer dans quelques minutes. Si cela se reproduit, demandez de l’aide.",
        ),
        Topic::DirectoryDown => say(
            "Votre compte ne peut pas être recherché en ce moment",
            "L’annuaire des comptes ne répond pas.",
            "Veuillez réessayer dans quelques minutes.",
        ),
        Topic::AccountNew => say(
            "Votre compte n’est pas encore connu partout",
            "Votre compte a été trouvé, mais tous les systèmes ne le connaissent pas encore. C’est fréquent pour un nouveau compte.",
            "Veuillez réessayer dans quelques minutes. Si rien n’a changé au bout d’une heure, demandez de l’aide.",
        ),
        Topic::SignOnDown => say(
            "La connexion à l’application n’est pas disponible",
            "Vous êtes connecté, mais nous ne pouvons pas vous connecter à l’application elle-même en ce moment.",
            "Veuillez réessayer dans quelques minutes.",
        ),
        Topic::SignOnUnset => say(
            "L’application n’accepte pas encore votre connexion",
            "Vous êtes connecté et autorisé à utiliser l’application, mais la connexion à celle-ci n’est pas entièrement configurée.",
            "Veuillez demander de l’aide. Réessayer ne changera rien tant que la configuration n’aura pas été corrigée.",
        ),
        Topic::Mismatch => say(
            "Nous avons tout arrêté pour vous protéger",
            "L’application aurait vu une autre personne à votre place. Rien ne lui a été envoyé.",
            "Connectez-vous de nouveau. Si cela se reproduit, demandez de l’aide.",
        ),
        Topic::ApplicationDown => say(
            "L’application ne répond pas",
            "Vous êtes connecté, mais l’application elle-même n’est pas joignable en ce moment.",
            "Veuillez réessayer dans quelques minutes.",
        ),
        Topic::ApplicationSlow => say(
            "L’application met trop de temps à répondre",
            "L’application n’a pas répondu à temps. Votre demande a peut-être été exécutée malgré tout.",
            "Ouvrez de nouveau l’application et vérifiez le résultat avant de recommencer.",
        ),
        Topic::Internal => say(
            "Un problème est survenu de notre côté",
            "Une erreur inattendue s’est produite. Vous n’avez fait aucune erreur.",
            "Veuillez réessayer plus tard. Si cela se reproduit, demandez de l’aide.",
        ),
    }
}
