// Package layers holds the law of imports and the other house rules, as tests. It is a package of its own because
// the law concerns all rooms and none of them may judge itself. Change the law in a commit that says why, never to
// fix a build.
package layers
