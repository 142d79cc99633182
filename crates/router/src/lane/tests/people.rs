//! Whose users are online by their sessions, and what tells of others that is not true any more.

use super::check;

#[test]
fn a_user_is_online_by_a_session_of_such_a_dialect_until_it_ends() {
    check(
        "1 opens online as ann
         2 opens as ann
         3 opens online
         1 gone",
        "1: welcome ann 1
         hub person +ann
         2: welcome ann 2
         hub person -ann",
    );
}

#[test]
fn nobody_looks_until_the_client_asks_for_something() {
    check(
        "1 opens online as ann
         1 hides
         1 hides
         1 pings
         1 acks nothing
         1 garbles
         1 joins news
         1 hides
         1 leaves news
         1 hides
         1 gone",
        "1: welcome ann 1
         hub person +ann
         hub person +ann away
         1: pong at 0
         1: refused: The message cannot be read
         hub person +ann
         1: joined news
         hub person +ann away
         hub person +ann
         1: left news
         hub person +ann away
         hub person -ann away",
    );
}

#[test]
fn of_one_user_only_the_newest_is_given_again() {
    check(
        "1 opens online as ann
         1 joins must
         hub must bob-on id=a kind=online of=user-bob@5
         hub must cid-on id=b kind=online of=user-cid@5
         hub must other id=c of=dialog-ann:bob@5
         serve
         wait 1250
         1 pongs
         hub must bob-off id=d kind=offline of=user-bob@6
         serve
         wait 1250
         1 pongs
         wait 5250",
        "1: welcome ann 1
         hub person +ann
         1: joined must
         1: must bob-on + must cid-on + must other
         1: ping
         1: must bob-off
         1: ping
         1: again must cid-on
         1: again must other
         1: ping
         1: again must bob-off
         1: ping",
    );
}
