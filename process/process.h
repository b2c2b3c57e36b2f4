/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef PROCESS_PROCESS_H
#define PROCESS_PROCESS_H

/**
 * @file
 * The process as the operating system sees it: its standard descriptors, its limits, its signals,
 * and the service manager that started it.
 *
 * | signals                           | are                                                     |
 * |-----------------------------------|---------------------------------------------------------|
 * | INT, TERM, HUP, QUIT, XCPU, PWR   | read by the control loop: the program ends in order. HUP |
 * |                                   | is ignored where it was at the start, as nohup does it   |
 * | ABRT, SEGV, ILL, FPE, SYS         | deadly; what is queued of the log is written before      |
 * | TSTP, STOP, CONT, KILL, TRAP      | left as they are                                        |
 * | all others, realtime ones too     | ignored; drivers may set handlers for them              |
 *
 * Threads: all by the main thread, but process_is_to_end() and process_lacks_descriptors().
 */

#include <stdbool.h>

/**
 * Open /dev/null for those of descriptors 0 to 2 that are closed, or the next file or mapping would
 * be written to as stderr. The first call of main().
 *
 * @return 0 or a negative errno
 */
int process_open_descriptors(void);

/** Raise the soft limit of open files to the hard one: each guest needs a dozen. */
void process_raise_limits(void);

/**
 * Block, catch or ignore signals, before any thread is started.
 *
 * @return a descriptor that is readable when the program is to end, or a negative errno
 */
int process_catch_signals(void);

/**
 * Have SIGHUP read settings again, which the control loop does, instead of ending the program. Main
 * thread, before EAL.
 */
void process_reload_on_hangup(void);

/**
 * Take a signal. Called by the control loop.
 *
 * @param fd from process_catch_signals(), readable
 * @return whether it asks for a reload, and not for the end
 */
bool process_takes_reload(int fd);

/** Ignore realtime signals that no driver has a handler for. After all drivers have started. */
void process_ignore_others(void);

/**
 * Whether a signal has come that ends the program, before the control loop runs. Any thread.
 *
 * @return true: it has
 */
bool process_is_to_end(void);

/**
 * Log that no file descriptors are left, if that is what an errno says; once in ten seconds.
 * Any thread.
 *
 * @param error an errno, positive
 * @return whether it is EMFILE or ENFILE
 */
bool process_lacks_descriptors(int error);

/**
 * Tell the service manager (sd_notify(3)), if there is one.
 *
 * @param state "READY=1", "STOPPING=1", ...
 */
void process_notify(const char *state);

#endif /* PROCESS_PROCESS_H */
