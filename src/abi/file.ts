/** What is asked of a descriptor: lseek(2), fcntl(2). Checked by `native/layout.c`, but for those that Node knows itself. */

export const SEEK_SET = 0;
export const SEEK_CUR = 1;
export const SEEK_END = 2;
/** Where the next data begins, at or after an offset; -ENXIO where there is none. */
export const SEEK_DATA = 3;
/** Where the next hole begins; the end of a file counts as one. */
export const SEEK_HOLE = 4;
