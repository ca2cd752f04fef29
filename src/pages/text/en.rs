//! English.

use super::Sentence;
use super::Words;
use super::say;
use crate::pages::topic::Topic;

pub(super) const WORDS: Words = Words {
    what_next: "What you can do",
    who_helps: "Who can help",
    ask_owner: "Responsible for this application:",
    ask_support: "Support:",
    owner_unnamed: "The person who invited you or sent you the link can arrange access for you.",
    support_unnamed: "The help desk of the organization that offers this application.",
    details: "Details for support",
    quote: "Please pass these on. They help to find the cause quickly.",
    code: "Code",
    request: "Request",
    time: "Time",
    application: "Application",
    sign_in: "Sign in again",
    retry: "Try again",
    waiting: say(
        "We are preparing your access",
        "This is your first visit. Your account is being created, which takes a few seconds.",
        "You do not need to do anything. This page continues by itself.",
    ),
    waiting_status: "Please wait. Your access is being prepared.",
    go_on: "Continue now",
    signed_out: say(
        "You are signed out",
        "You have been signed out of all applications that you opened here.",
        "If other people use this device, please close all browser windows as well.",
    ),
    confirm: say(
        "Do you want to sign out?",
        "You will be signed out of all applications that you opened here.",
        "Please save your work first. Anything not yet saved may be lost.",
    ),
    sign_out: "Sign out",
    another_account: "Sign out and use another account",
    cancel: "Back",
    way: say(
        "One moment, please",
        "You are being sent on.",
        "If nothing happens, use the button below.",
    ),
    form_not_sent: say(
        "Your form was not sent",
        "Your sign-in had ended before the form was sent. Nothing has been saved or changed.",
        "Your entries are still in this tab. Sign in in a new tab with the button below. Then come back to this tab and reload it: your browser asks whether to send the form again. Say yes.",
    ),
};

#[expect(clippy::too_many_lines, reason = "a flat table, one entry a topic")]
pub(super) const fn sentence(topic: Topic) -> Sentence {
    match topic {
        Topic::RequestUnclear => say(
            "This request could not be understood",
            "The address or the data that your browser sent can be read in more than one way, so it was not passed on.",
            "Check the address for typing errors, or start again from the link you were given.",
        ),
        Topic::NothingHere => say(
            "There is nothing at this address",
            "No application or page is available at this address.",
            "Check the address for typing errors, or start again from the link you were given.",
        ),
        Topic::WrongHost => say(
            "This address was reached by a wrong path",
            "Your browser asked for this address over a connection that belongs to another one.",
            "Try again. If it happens once more, close your browser and open the address anew.",
        ),
        Topic::NotPossible => say(
            "This is not possible here",
            "The application does not accept this kind of request.",
            "Go back and choose another way in the application.",
        ),
        Topic::TooLarge => say(
            "That is too large",
            "You sent more data than this application accepts in one go.",
            "Choose a smaller file, or split it into several parts.",
        ),
        Topic::CookiesInTheWay => say(
            "Stored cookies are in the way",
            "Your browser sent more cookies, or other cookies, than this site can use.",
            "Delete the cookies of this site in your browser's settings, then open the address again.",
        ),
        Topic::Incomplete => say(
            "Your request did not arrive completely",
            "The connection was interrupted before everything had been sent.",
            "Check your internet connection and try again.",
        ),
        Topic::SignInNeeded => say(
            "Please sign in",
            "This application is only available to people who are signed in.",
            "Sign in and you will be taken to the application.",
        ),
        Topic::SignInOver => say(
            "Your sign-in has ended",
            "For your security, a sign-in lasts only for a limited time.",
            "Sign in again. You can then go on.",
        ),
        Topic::FormOfAnother => say(
            "This form belongs to somebody else",
            "Somebody else had filled in the form that was waiting here, so it was not sent.",
            "Open the application again and fill in the form yourself.",
        ),
        Topic::SignedOut => say(
            "You are signed out",
            "You signed out, or your sign-in was ended for you.",
            "Sign in again if you want to go on.",
        ),
        Topic::SignInInterrupted => say(
            "Your sign-in could not be completed",
            "This step of the sign-in was already used, took too long, or was begun in another browser.",
            "Start the sign-in again and complete it in the same browser window. Please do not use a bookmark of the sign-in page.",
        ),
        Topic::SignInRefused => say(
            "Your sign-in was not accepted",
            "The sign-in service did not let you in with the account you used.",
            "Sign in again, if you like with another account. If it happens again, please ask for help.",
        ),
        Topic::SignInLoop => say(
            "Your browser does not keep the sign-in",
            "You signed in several times, but your browser did not keep the result.",
            "Allow cookies for this site in your browser's settings, or use another browser, and sign in again.",
        ),
        Topic::SignInServiceDown => say(
            "The sign-in service is not answering",
            "At the moment nobody can sign in. If you are already signed in elsewhere, you can go on working there.",
            "Please try again in a few minutes.",
        ),
        Topic::SignInServiceUnfit => say(
            "The sign-in is not set up correctly",
            "The sign-in service and this site do not fit together at the moment. You have done nothing wrong.",
            "Please ask for help. Trying again will not change anything until the setup has been corrected.",
        ),
        Topic::SignInUnconfirmed => say(
            "Your sign-in could not be confirmed",
            "The confirmation of your sign-in did not pass our checks, so we did not use it.",
            "Sign in again. If it happens again, please ask for help.",
        ),
        Topic::NotForPrograms => say(
            "Programs cannot sign in this way here",
            "This application can only be used by people, or it does not accept access by programs.",
            "Open the application in a browser. If you run a program, please ask the people responsible for the application.",
        ),
        Topic::PersonInactive => say(
            "Your account is no longer active",
            "The organization with which you signed in, or the one you are visiting, has ended or paused your access.",
            "If you still need access, please ask the person who invited you.",
        ),
        Topic::Busy => say(
            "There is too much going on at the moment",
            "Your request could not be handled right now.",
            "Please wait a moment and try again.",
        ),
        Topic::Maintenance => say(
            "This application is being worked on",
            "It is closed for a while so that it can be maintained. Nothing is wrong with your access.",
            "Please come back later.",
        ),
        Topic::NoAccess => say(
            "You do not have access to this application",
            "You are signed in, but this application has not been opened for you yet.",
            "If you need it for your work, please ask for access.",
        ),
        Topic::NoGuests => say(
            "This application is not open to guests",
            "You are signed in as a guest of another organization. This application is only for members of the organization that offers it.",
            "If you need it for your work, please ask for access.",
        ),
        Topic::NotFromHere => say(
            "Not from this place",
            "Your device is connected from a network that this application does not accept.",
            "Connect through the network or VPN of the organization that offers it, then try again.",
        ),
        Topic::TooFast => say(
            "That was too much at once",
            "More requests came from you, or from your network, than are accepted in this time.",
            "Please wait a moment and try again. Close tabs you do not need.",
        ),
        Topic::OtherOrganization => say(
            "This application is not open to your organization",
            "You are signed in, but this application is not available to people of the organization you come from.",
            "If you need it for your work, please ask for access.",
        ),
        Topic::AccessUnknown => say(
            "Your access could not be checked",
            "Whether you may use this application could not be looked up just now, so we did not open it.",
            "Please try again in a few minutes.",
        ),
        Topic::ForeignOrigin => say(
            "This request came from another site",
            "Another website tried to do something here in your name. It was stopped to protect you.",
            "If you wanted to open the application yourself, use the button or type the address into your browser.",
        ),
        Topic::AccountMissing => say(
            "There is no account for you yet",
            "You are signed in, but this application needs an account that has not been set up for you.",
            "Please ask for an account to be set up.",
        ),
        Topic::AccountUnclear => say(
            "Your account could not be determined",
            "More than one account would fit you, so for safety none was used.",
            "Please ask for help. It has to be corrected by an administrator.",
        ),
        Topic::AccountDisabled => say(
            "Your account is switched off",
            "Your account for this application is switched off at the moment.",
            "If you still need it, please ask for it to be switched on again.",
        ),
        Topic::AccountLocked => say(
            "Your account is locked",
            "Your account is locked for the time being, often after several failed sign-ins.",
            "Wait half an hour and open the application again, or ask for help.",
        ),
        Topic::AccountExpired => say(
            "Your account has expired",
            "The time for which your account was set up is over.",
            "If you still need it, please ask for it to be extended.",
        ),
        Topic::AccountSpecial => say(
            "This account cannot be used here",
            "For security reasons, accounts of this kind are not used through this site.",
            "Sign in with your ordinary account, if you have one, or ask for help.",
        ),
        Topic::AccountNotMade => say(
            "Your account could not be prepared",
            "Something went wrong while your account was being prepared.",
            "Please try again in a few minutes. If it happens again, please ask for help.",
        ),
        Topic::DirectoryDown => say(
            "Your account cannot be looked up at the moment",
            "The directory of accounts is not answering.",
            "Please try again in a few minutes.",
        ),
        Topic::AccountNew => say(
            "Your account is not known everywhere yet",
            "Your account was found, but not every system knows it yet. This is common with new accounts.",
            "Please try again in a few minutes. If it has not changed after an hour, ask for help.",
        ),
        Topic::SignOnDown => say(
            "The application's sign-in is not available",
            "You are signed in, but we cannot sign you in to the application itself at the moment.",
            "Please try again in a few minutes.",
        ),
        Topic::SignOnUnset => say(
            "The application does not accept your sign-in yet",
            "You are signed in and you may use the application, but its sign-in is not set up completely.",
            "Please ask for help. Trying again will not change anything until the setup has been corrected.",
        ),
        Topic::Mismatch => say(
            "We stopped to protect you",
            "The application would have seen somebody else instead of you. Nothing was sent to it.",
            "Sign in again. If it happens again, please ask for help.",
        ),
        Topic::ApplicationDown => say(
            "The application is not answering",
            "You are signed in, but the application itself cannot be reached at the moment.",
            "Please try again in a few minutes.",
        ),
        Topic::ApplicationSlow => say(
            "The application is taking too long",
            "The application did not answer in time. What you asked for may still have been carried out.",
            "Open the application again and check the result before you repeat anything.",
        ),
        Topic::Internal => say(
            "Something went wrong on our side",
            "An unexpected error happened. You have done nothing wrong.",
            "Please try again later. If it happens again, please ask for help.",
        ),
    }
}
