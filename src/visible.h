/* SPDX-License-Identifier: MIT */
#ifndef GREEN_VISIBLE_H
#define GREEN_VISIBLE_H
/*
 * There may be several copies of the library in a process, and each serves whoever is
 * linked with it, whole: no call of one may be bound to another by its name, as the
 * dynamic linker would have it.  So what the public headers declare is
 *
 *   - exported by the shared library (GREEN_SHARED), of which there is one
 *   - hidden in the static library (GREEN_STATIC), as all else is: whatever that is
 *     linked into does not export it, even if it exports all it can (-rdynamic)
 *   - otherwise, as in the amalgamation, which may become part of a shared library:
 *     exported, and yet always bound to the copy in the same object
 */
#if defined(GREEN_SHARED)
#define GREEN__VISIBILITY default
#elif defined(GREEN_STATIC)
#define GREEN__VISIBILITY hidden
#else
#define GREEN__VISIBILITY protected
#endif
#define GREEN__PRAGMA(x) _Pragma(#x)
#define GREEN__PUSH_VISIBILITY(x) GREEN__PRAGMA(GCC visibility push(x))

#define GREEN_PRIVATE_LIBRARY /* green.h tells no library of its own runtime */

#endif
