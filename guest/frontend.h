/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GUEST_FRONTEND_H
#define GUEST_FRONTEND_H

/**
 * @file
 * The front end of a guest: who speaks vhost-user at the other end of the socket, and is not trusted.
 *
 * librte_vhost reads the messages and acts on them. It takes a good deal for granted: that a ring
 * does not change its size while it is in use, that new memory can be mapped before the old one is
 * given up, that a ring got a size before it is started, that what is to be notified is an eventfd,
 * that replies are read. A front end that keeps to none of this would bring down or hold up all
 * guests. So each message is looked at here before librte_vhost acts on it, and is refused, with
 * nothing changed, where it asks for what no honest front end does. One that librte_vhost fails to
 * carry out all the same leaves a device in an unknown state: from then on every message of that
 * front end is refused, and the guest stays paused.
 *
 * Messages are read by one thread for all guests. It waits for the rest of a message, and to send a
 * reply, for FRONTEND_WAIT_MS at most; a front end that leaves replies unread is hung up on.
 *
 * All functions: control.
 */

#include <stdbool.h>

/** How long the thread that reads all front ends' messages waits for one of them. */
#define FRONTEND_WAIT_MS 500

/**
 * A front end has connected.
 *
 * @param vid librte_vhost's handle
 */
void frontend_connected(int vid);

/**
 * It has gone.
 *
 * @param vid librte_vhost's handle
 */
void frontend_gone(int vid);

/**
 * A message has come. When it is refused, that is logged once for a connection, and its descriptors
 * are closed.
 *
 * @param vid librte_vhost's handle
 * @param context what librte_vhost hands to the pre_msg_handle callback
 * @return whether librte_vhost may act on it
 */
bool frontend_accepts(int vid, void *context);

struct guests;

/**
 * Take what is ours of a message that was accepted: its call or kick descriptor.
 *
 * @param vid librte_vhost's handle
 * @param context what librte_vhost hands to the pre_msg_handle callback; the descriptor is gone
 * @param guests the table
 * @return whether that was all of it, so that librte_vhost has nothing to do
 */
bool frontend_keeps(int vid, void *context, struct guests *guests);

/**
 * The last message has been carried out.
 *
 * @param vid librte_vhost's handle
 * @param context what librte_vhost hands to the post_msg_handle callback
 * @param guests the table
 */
void frontend_done(int vid, const void *context, struct guests *guests);

/**
 * Whether no message has failed half way.
 *
 * @param vid librte_vhost's handle
 */
bool frontend_is_sound(int vid);

#endif /* GUEST_FRONTEND_H */
