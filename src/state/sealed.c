/* A short secret at rest: HKDF-SHA256, then AES-256-GCM with a random nonce. */
#include "state/sealed.h"

#include <limits.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"

enum { KEY_SIZE = 32, NONCE_SIZE = 12, TAG_SIZE = 16, TEXT_LIMIT = 64 * 1024 };

static const char purpose[] = "holt work item token";

static void cleanup_key_context(EVP_PKEY_CTX **context) {
    EVP_PKEY_CTX_free(*context);
}

static void cleanup_cipher(EVP_CIPHER_CTX **context) {
    EVP_CIPHER_CTX_free(*context);
}

static bool derive(const char *key, unsigned char out[KEY_SIZE]) {
    CLEANUP(cleanup_key_context)
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, NULL);
    size_t size = KEY_SIZE;
    return strlen(key) <= INT_MAX && context != NULL && EVP_PKEY_derive_init(context) > 0 &&
           EVP_PKEY_CTX_set_hkdf_md(context, EVP_sha256()) > 0 &&
           EVP_PKEY_CTX_set1_hkdf_key(context, (const unsigned char *)key, (int)strlen(key)) > 0 &&
           EVP_PKEY_CTX_add1_hkdf_info(context, (const unsigned char *)purpose,
                                       (int)sizeof(purpose) - 1) > 0 &&
           EVP_PKEY_derive(context, out, &size) > 0 && size == KEY_SIZE;
}

/* A cipher set up for one direction, with the context as associated data. */
static EVP_CIPHER_CTX *start(const char *key, const unsigned char *nonce, const char *context,
                             int is_encryption) {
    unsigned char derived[KEY_SIZE];
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    int length = 0;
    bool is_ready =
        cipher != NULL && strlen(context) <= INT_MAX && derive(key, derived) &&
        EVP_CipherInit_ex(cipher, EVP_aes_256_gcm(), NULL, derived, nonce, is_encryption) > 0 &&
        EVP_CipherUpdate(cipher, NULL, &length, (const unsigned char *)context,
                         (int)strlen(context)) > 0;
    memory_wipe(derived, sizeof(derived));
    if (!is_ready) {
        EVP_CIPHER_CTX_free(cipher);
        return NULL;
    }
    return cipher;
}

bool sealed_write(struct buffer *out, const char *key, const char *context, const char *text,
                  struct error **error) {
    size_t length = strnlen(text, TEXT_LIMIT + 1);
    unsigned char nonce[NONCE_SIZE];
    random_bytes(nonce, sizeof(nonce));
    CLEANUP(cleanup_cipher)
    EVP_CIPHER_CTX *cipher = start(key, nonce, context, 1);
    CLEANUP_FREE unsigned char *bytes = memory_zeroed(length + TAG_SIZE, 1);
    unsigned char tag[TAG_SIZE];
    int written = 0;
    int rest = 0;
    if (length > TEXT_LIMIT || cipher == NULL ||
        EVP_CipherUpdate(cipher, bytes, &written, (const unsigned char *)text, (int)length) <= 0 ||
        EVP_CipherFinal_ex(cipher, bytes + written, &rest) <= 0 ||
        EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_GCM_GET_TAG, TAG_SIZE, tag) <= 0) {
        return error_set(error, ERROR_INTERNAL, "cannot seal a token");
    }
    buffer_append(out, nonce, sizeof(nonce));
    buffer_append(out, bytes, length);
    buffer_append(out, tag, sizeof(tag));
    return true;
}

char *sealed_read(const void *bytes, size_t length, const char *key, const char *context) {
    if (length < NONCE_SIZE + TAG_SIZE || length > NONCE_SIZE + TEXT_LIMIT + TAG_SIZE) {
        return NULL;
    }
    const unsigned char *nonce = bytes;
    size_t text_length = length - NONCE_SIZE - TAG_SIZE;
    unsigned char tag[TAG_SIZE];
    memcpy(tag, nonce + length - TAG_SIZE, TAG_SIZE);
    CLEANUP(cleanup_cipher)
    EVP_CIPHER_CTX *cipher = start(key, nonce, context, 0);
    unsigned char *text = memory_zeroed(text_length + 1, 1);
    int written = 0;
    int rest = 0;
    if (cipher == NULL ||
        EVP_CipherUpdate(cipher, text, &written, nonce + NONCE_SIZE, (int)text_length) <= 0 ||
        EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_GCM_SET_TAG, TAG_SIZE, tag) <= 0 ||
        EVP_CipherFinal_ex(cipher, text + written, &rest) <= 0) {
        memory_wipe(text, text_length);
        free(text);
        return NULL;
    }
    return (char *)text;
}
