/*
 * What Debian's libstdc++ and libgcc want from glibc and musl does not have, so that a program for musl that needs libstdc++ runs on Debian, where no
 * package has one for musl. For the tests alone: it takes the name of glibc's loader, which these libraries name, and is found in its place.
 */
#include <locale.h>
#include <stddef.h>
#include <sys/random.h>
#include <time.h>

char __libc_single_threaded = 0;

unsigned arc4random(void) {
  unsigned value = 0;
  return getrandom(&value, sizeof value, 0) < 0 ? 0 : value;
}

size_t __strftime_l(char *into, size_t size, const char *format, const struct tm *time, locale_t locale) {
  return strftime_l(into, size, format, time, locale);
}

/* Destructors of threads do not run. */
int __cxa_thread_atexit_impl(void (*destroy)(void *), void *object, void *library) {
  (void)destroy, (void)object, (void)library;
  return 0;
}

/* The unwinder asks dl_iterate_phdr then. */
int _dl_find_object(void *address, void *result) {
  (void)address, (void)result;
  return -1;
}

int __cpu_indicator_init(void) {
  return 0;
}

struct {
  unsigned vendor, type, subtype, features[1];
} __cpu_model;
